"""What DynamoDB can tell of a search by its rows: ranges of keys, and conditions that leave rows out unread. Pure.

They only ever leave out what cannot be found: what they let through, the record decides. An expression of DynamoDB's
may have 4 KB and 300 operators: as many clauses as a filter may have, and as many limits as a token, need less.
"""

from collections.abc import Sequence
from functools import reduce
from operator import and_, or_

from pynamodb.expressions.condition import Condition

from chalicelib.registry.access import Access
from chalicelib.registry.filters import Clause, fixed_beginning, fixed_pieces
from chalicelib.registry.registered_models import OWN_FILES, PROMPT_TAG
from chalicelib.registry.searching import Query
from chalicelib.store.keys import MAX_LISTED_BYTES, MORE_TAGS, NAME_END, tag_hint
from chalicelib.store.search_rows import SOURCE_CHARACTERS, ChangeRow, ModelRow, VersionRow

MAX_VALUES = 100  # in a list of DynamoDB's
MAX_BEGINNING = 200
PROMPT_HINT = tag_hint(PROMPT_TAG, "true")
LAST = "\U0010ffff"  # sorts behind every name
FIRST = " "  # and this before


def names_between(query: Query) -> Condition | None:
    """Which keys of ModelRow may be of names that are wanted, in an order of names from the position on."""
    is_ascending = query.order[0].is_ascending
    beginning = max((fixed_beginning(one) for one in query.of_attribute("name")), key=len, default="")[:MAX_BEGINNING]
    if query.after is None and not beginning:
        return None
    low, high = beginning or FIRST, f"{beginning}{LAST}"
    if query.after is not None:
        after = _name_in_a_key(str(query.after[0]))
        # A name that was cut may be that of more rows; in this order they are told apart by their records.
        is_cut = after != query.after[0]
        behind = f"{after}{NAME_END}{'' if is_cut == is_ascending else LAST}"
        low, high = (max(low, behind), high) if is_ascending else (low, min(high, behind if is_cut else after))
    return ModelRow.sk.between(low, max(low, high))


def _name_in_a_key(name: str) -> str:
    return name.encode()[:MAX_LISTED_BYTES].decode(errors="ignore")


def changes_between(kind: type[ChangeRow] | type[VersionRow], query: Query) -> Condition | None:
    """Which keys are from the position on: its millisecond once more, of which some may be left."""
    if query.after is None:
        return None
    at = f"{int(query.after[0]):015d}"
    return kind.sk >= at if query.order[0].is_ascending else kind.sk <= f"{at}${LAST}"


def within_limits(kind: type[ModelRow] | type[ChangeRow] | type[VersionRow], within: Access) -> Condition | None:
    return any_of([kind.exact_name.startswith(prefix) for prefix in within.name_prefixes or ()])


def models_like(query: Query, within: Access) -> Condition | None:
    """What ModelRows have to say, but for the beginning of the name, which the range tells."""
    found = [condition for clause in query.told for condition in _of_a_model(clause)]
    limits = within_limits(ModelRow, within)
    return all_of([*([limits] if limits is not None else []), *found])


def _of_a_model(clause: Clause) -> list[Condition]:
    if clause.entity == "tag":
        return _of_a_tag(ModelRow, clause)
    if clause.comparator == "LIKE":
        return _longest(ModelRow.name.contains, fixed_pieces(clause)[1:])
    if clause.comparator == "ILIKE":
        return _longest(ModelRow.folded_name.contains, [piece.casefold() for piece in fixed_pieces(clause)])
    return []


def versions_like(query: Query, within: Access, is_without_prompts: bool) -> Condition | None:
    """What VersionRows have to say; of prompts only where all rows are read, since it costs reading few."""
    found = [condition for clause in query.told for condition in _of_a_version(clause)]
    limits = within_limits(VersionRow, within)
    limited = [limits] if limits is not None else []
    if not query.wants_prompts and (found or limited or is_without_prompts):
        limited.append(~VersionRow.tags.contains(PROMPT_HINT))
    return all_of([*limited, *found])


def _of_a_version(clause: Clause) -> list[Condition]:
    if clause.entity == "tag":
        return _of_a_tag(VersionRow, clause)
    match clause.key:
        case "name":
            return _of_a_text(VersionRow.name, clause)
        case "run_id":
            # No run and an empty one are the same, but not in a row.
            return _of_a_text(VersionRow.run_id, clause) if all(clause.values) else []
        case "source_path":
            return _of_a_source(clause)
    value = int(clause.value)
    number = VersionRow.number
    return [
        {
            "=": number == value,
            "!=": number != value,
            "<": number < value,
            "<=": number <= value,
            ">": number > value,
            ">=": number >= value,
        }[clause.comparator]
    ]


def _of_a_text(attribute: object, clause: Clause) -> list[Condition]:
    values = [str(value) for value in clause.values]
    if clause.comparator in ("=", "IN") and len(values) <= MAX_VALUES:
        return [attribute.is_in(*values)]  # type: ignore[attr-defined] # an attribute of PynamoDB's
    if clause.comparator != "LIKE":
        return []
    first, *others = fixed_pieces(clause)
    beginning = [attribute.startswith(first)] if first else []  # type: ignore[attr-defined]
    return [*beginning, *_longest(attribute.contains, others)]  # type: ignore[attr-defined]


def _of_a_source(clause: Clause) -> list[Condition]:
    """A row has the beginning of a long source, and nothing of what MLflow has not made."""
    source = VersionRow.source
    beginning = fixed_beginning(clause)[:SOURCE_CHARACTERS]
    if not beginning:
        return []
    is_so = source == beginning if clause.comparator == "=" else source.startswith(beginning)
    may_be_own = beginning.startswith(OWN_FILES) or OWN_FILES.startswith(beginning)
    return [is_so | source.does_not_exist() if may_be_own else is_so]


def _of_a_tag(kind: type[ModelRow] | type[VersionRow], clause: Clause) -> list[Condition]:
    if clause.comparator != "=":
        return []
    return [kind.tags.contains(tag_hint(clause.key, str(clause.value))) | kind.tags.contains(MORE_TAGS)]


def _longest(contains: object, pieces: Sequence[str]) -> list[Condition]:
    piece = max(pieces, key=len, default="")
    return [contains(piece)] if piece else []  # type: ignore[operator] # a method of PynamoDB's attributes


def any_of(conditions: Sequence[Condition]) -> Condition | None:
    return reduce(or_, conditions) if conditions else None


def all_of(conditions: Sequence[Condition]) -> Condition | None:
    return reduce(and_, conditions) if conditions else None
