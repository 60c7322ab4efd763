"""What MLflow's clients filter registered models and versions by: comparisons, all of which must hold. Pure.

`filter_grammar` reads them out of a text; here is what they mean.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from chalicelib.registry.models import Frozen

Entity = Literal["attribute", "tag"]
Comparator = Literal["=", "!=", "<", "<=", ">", ">=", "LIKE", "ILIKE", "IN", "NOT IN"]
TEXTS: tuple[Comparator, ...] = ("=", "!=", "LIKE", "ILIKE")
LISTS: tuple[Comparator, ...] = ("IN", "NOT IN")
NUMBERS: tuple[Comparator, ...] = ("=", "!=", "<", "<=", ">", ">=")


class Grammar(NamedTuple):
    """What may be compared: `texts` as texts, of which `lists` with lists too, `numbers` as numbers."""

    what: str
    texts: tuple[str, ...]
    lists: tuple[str, ...]
    numbers: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(sorted((*self.texts, *self.numbers)))


MODELS = Grammar("registered model", texts=("name",), lists=("name",))
VERSIONS = Grammar(
    "model version", texts=("name", "run_id", "source_path"), lists=("name", "run_id"), numbers=("version_number",)
)


class Clause(Frozen):
    """One comparison. `values` are those of a list, or the one value."""

    entity: Entity
    key: str
    comparator: Comparator
    values: tuple[str | int, ...]

    @property
    def value(self) -> str | int:
        return self.values[0]


def holds(clause: Clause, value: str | int | None) -> bool:
    """Whether a value compares so; one that is not there does not, whatever the comparison."""
    if value is None:
        return False
    match clause.comparator:
        case "IN":
            return value in clause.values
        case "NOT IN":
            return value not in clause.values
        case "LIKE" | "ILIKE":
            return is_like(str(value), str(clause.value), clause.comparator == "ILIKE")
        case "=":
            return value == clause.value
        case "!=":
            return value != clause.value
    return _ordered(clause.comparator, int(value), int(clause.value))


def _ordered(comparator: str, left: int, right: int) -> bool:
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[comparator]


def tags_hold(clauses: Sequence[Clause], tags: Mapping[str, str]) -> bool:
    return all(holds(clause, tags.get(clause.key)) for clause in clauses if clause.entity == "tag")


def is_like(text: str, pattern: str, is_any_case: bool = False) -> bool:
    """As SQL has it: `%` stands for any text, `_` for any character, and nothing escapes them.

    In time that is at most the product of their lengths.
    """
    # Character by character, for some fold to several, and `_` stands for the one that was there.
    left = [character.casefold() for character in text] if is_any_case else list(text)
    right = [character.casefold() for character in pattern] if is_any_case else list(pattern)
    here, at, star, mark = 0, 0, -1, 0
    while here < len(left):
        if at < len(right) and right[at] == "%":
            star, mark = at, here
            at += 1
        elif at < len(right) and right[at] in ("_", left[here]):
            at += 1
            here += 1
        elif star >= 0:
            at, mark = star + 1, mark + 1
            here = mark
        else:
            return False
    return all(character == "%" for character in right[at:])


def fixed_beginning(clause: Clause) -> str:
    """What a text begins with that compares so, as far as the comparison tells."""
    if clause.comparator == "=":
        return str(clause.value)
    return fixed_pieces(clause)[0] if clause.comparator == "LIKE" else ""


def fixed_pieces(clause: Clause) -> list[str]:
    """What stands between the wildcards of a pattern."""
    return re.split("[%_]", str(clause.value))
