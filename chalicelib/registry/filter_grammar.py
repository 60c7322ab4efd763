"""Reads the filters that MLflow's clients state: comparisons, joined by AND. Pure.

    name LIKE 'det%' AND tags.`team name` = 'vision' AND version_number >= 3

A key of a tag stands behind `tag.` or `tags.`, in backticks or quotes if it is more than a word. A value stands in
single or double quotes and is taken as it is; in a list it is read as a text of Python's.

What is accepted is what MLflow 3.18 accepts, and the order in which it looks for what is wrong is that of MLflow too:
first whether all of it is comparisons, then keys and values, then what goes with what. So most errors say the same.
tests/unit/test_filters.py has what differs.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chalicelib.registry.errors import InvalidInput, shown
from chalicelib.registry.filters import LISTS, NUMBERS, TEXTS, Clause, Comparator, Entity, Grammar

MAX_FILTER = 10_000
MAX_CLAUSES = 50
MAX_NUMBER = 2**63 - 1  # what MLflow's databases compare with
SINGLE, DOUBLE, QUOTED = r"'(?:''|\\'|[^'])*'", r'"(?:""|\\"|[^"])*"', r"`(?:``|[^`])*`"
# Behind a dot these are words of SQL's to MLflow's parser, and a number is none.
PART = rf"(?:(?!(?:case|in|values|using|from|as)\b)(?!\d+\b)\w+|{QUOTED}|{DOUBLE}|{SINGLE})"
TOKEN = re.compile(
    rf"""(?P<space>\s+)
    | (?P<number>-?\d+(?:\.\d*)?(?:e-?\d+)?(?!\w)|-?\.\d+(?!\w))
    | (?P<text>{SINGLE})
    | (?P<list>\((?:{SINGLE}|{DOUBLE}|[^()'"])*\))
    | (?P<comparator>[<>=~!]+|(?:not\s+)?(?:i?like|rlike|regexp)\b)
    | (?P<joining>(?:and|or|not|is|in|null)\b(?!\s*\.))
    | (?P<key>(?:\w+|{QUOTED}|{DOUBLE})(?:\s*\.\s*{PART})*)
    | (?P<other>.)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
OPERANDS = ("key", "text", "number", "list")
INTEGER = re.compile(r"-?\d+")
FLAT_LIST = re.compile(rf"\((?:\s|,|-?\d+|{SINGLE}|{DOUBLE})*\)")
UNKNOWN_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
ESCAPES = "\\'\"abfnrtvxuUN01234567\n"
WHAT_A_LIST_IS = "While parsing a list in the query, expected"


class Token(NamedTuple):
    kind: str
    text: str

    def __str__(self) -> str:
        return shown(self.text)


class Comparison(NamedTuple):
    """What stands on both sides of a comparator, which is in capitals."""

    left: Token
    comparator: str
    right: Token


class Compared(NamedTuple):
    """A comparison whose key there is, with its values, which may not go with the comparator yet."""

    entity: Entity
    key: str
    comparator: str
    values: tuple[str | int | float, ...]
    is_list: bool


def parse_filter(text: str, grammar: Grammar) -> tuple[Clause, ...]:
    """The comparisons, all of which must hold. Raises InvalidInput, saying what is not understood."""
    _check(text)
    comparisons = _comparisons_of([token for token in _tokens_of(text) if token.kind != "space"], grammar)
    if len(comparisons) > MAX_CLAUSES:
        raise _invalid(f"A filter may have {MAX_CLAUSES} comparisons, this one has {len(comparisons)}.")
    compared = [_compared(one, grammar) for one in comparisons]
    return tuple(_clause(one, grammar) for one in compared)


def _check(text: str) -> None:
    if len(text) > MAX_FILTER:
        raise _invalid(f"A filter may have {MAX_FILTER:,} characters, this one has {len(text):,}.")
    if text and not text.strip():
        raise _invalid(f"Invalid filter '{shown(text)}'. Could not be parsed.")
    if not _is_text(text):
        raise _invalid("A filter is a text of Unicode; this one has halves of characters.")


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _tokens_of(text: str) -> Iterator[Token]:
    """All of it, in pieces."""
    for match in TOKEN.finditer(text):
        yield Token(match.lastgroup or "other", match[0])


# Whether all of it is comparisons


def _comparisons_of(tokens: Sequence[Token], grammar: Grammar) -> list[Comparison]:
    """AND may be missing, or be there too often: so it is with MLflow. Raises InvalidInput for all that is over."""
    found: list[Comparison] = []
    over: list[Token] = []
    at = 0
    while at < len(tokens):
        kinds = [token.kind for token in tokens[at : at + 3]]
        words = [token.text.upper() for token in tokens[at : at + 4]]
        if kinds[1:2] == ["comparator"] and kinds[0] in OPERANDS and kinds[2:] and kinds[2] in OPERANDS:
            found.append(Comparison(tokens[at], words[1], tokens[at + 2]))
            at += 3
        elif (count := _words_of_a_list(tokens[at : at + 4])) > 0:
            found.append(Comparison(tokens[at], " ".join(words[1 : count - 1]), tokens[at + count - 1]))
            at += count
        elif kinds[0] == "key" and (words[1:3] == ["IS", "NULL"] or words[1:4] == ["IS", "NOT", "NULL"]):
            raise _invalid(f"IS NULL / IS NOT NULL is not supported for {grammar.what} search.")
        else:
            over += [tokens[at]] if words[0] != "AND" else []
            at += 1
    if over:
        raise _invalid(f"Invalid clause(s) in filter string: {shown(', '.join(token.text for token in over))}")
    return found


def _words_of_a_list(tokens: Sequence[Token]) -> int:
    """How many words compare something with a list, if these begin so."""
    kinds, words = [token.kind for token in tokens], [token.text.upper() for token in tokens]
    if kinds[:3] == ["key", "joining", "list"] and words[1] == "IN":
        return 3
    return 4 if kinds == ["key", "joining", "joining", "list"] and words[1:3] == ["NOT", "IN"] else 0


# Keys and values


def _compared(comparison: Comparison, grammar: Grammar) -> Compared:
    if comparison.left.kind != "key":
        raise _invalid(f"Invalid comparison clause. Expected 'Identifier' found '{comparison.left}'")
    entity, key = _identifier(comparison.left.text, grammar)
    values = _values(entity, key, comparison.right, grammar)
    return Compared(entity, key, comparison.comparator, values, comparison.right.kind == "list")


def _identifier(text: str, grammar: Grammar) -> tuple[Entity, str]:
    stated, dot, key = text.partition(".")
    if dot and stated not in ("attribute", "tag", "tags"):
        raise _invalid(f"Invalid entity type '{shown(stated)}'. Valid entity types are ('attribute', 'tag', 'tags')")
    if dot and stated != "attribute":
        return "tag", _unquoted(key)
    attribute = key if dot else text
    if attribute not in grammar.keys:
        valid = "{" + ", ".join(f"'{name}'" for name in grammar.keys) + "}"
        raise _invalid(f"Invalid attribute key '{shown(attribute)}' specified. Valid keys are '{valid}'")
    return "attribute", attribute


def _unquoted(key: str) -> str:
    return key[1:-1] if len(key) > 1 and key[0] == key[-1] and key[0] in "`\"'" else key


def _values(entity: Entity, key: str, token: Token, grammar: Grammar) -> tuple[str | int | float, ...]:
    if token.kind == "text" or (token.kind == "key" and re.fullmatch(DOUBLE, token.text)):
        return (token.text[1:-1],)
    if token.kind == "key":
        raise _invalid(
            "Parameter value is either not quoted or unidentified quote types used for string value"
            f" {token}. Use either single or double quotes."
        )
    if entity == "tag":
        raise _invalid(f"Expected a quoted string value for tag (e.g. 'my-value'). Got value {token}")
    if token.kind == "list":
        return _list(key, token, grammar)
    return (_number(key, token, grammar),)


def _number(key: str, token: Token, grammar: Grammar) -> int | float:
    if not grammar.numbers:
        expected = "a quoted string value or a list of quoted string values for attributes"
        raise _invalid(f"Expected {expected}. Got value {token}")
    if key not in grammar.numbers:
        valid = "{" + ", ".join(f"'{name}'" for name in ORDERED_BY_NUMBER) + "}"
        raise _invalid(f"Only the '{valid}' attributes support comparison with numeric values.")
    is_short = len(token.text) < 50  # of what is longer, no number is made
    return int(token.text) if is_short and INTEGER.fullmatch(token.text) else float(token.text)


ORDERED_BY_NUMBER = ("creation_timestamp", "last_updated_timestamp", "version_number")  # as MLflow tells it


def _list(key: str, token: Token, grammar: Grammar) -> tuple[str, ...]:
    """The texts of a list, which MLflow has Python read."""
    if key not in grammar.lists:
        raise _invalid(
            f"Only {sorted(grammar.lists)} attributes support comparison with a list of quoted string values."
        )
    values = _read_by_python(token.text)
    if not values:
        raise _invalid(f"{WHAT_A_LIST_IS} a non-empty list of string values, but got empty list")
    texts = tuple(value for value in values if isinstance(value, str))
    if len(texts) < len(values):
        raise _invalid(
            f"{WHAT_A_LIST_IS} string value, punctuation, or whitespace, but got different type in list:"
            f" {shown(str(values))}"
        )
    return texts


def _read_by_python(text: str) -> tuple[str | int, ...]:
    # There is nothing in it but texts and numbers, so no depth. Python would warn of escapes that it does not know.
    known = UNKNOWN_ESCAPE.sub(lambda match: match[0] if match[1] in ESCAPES else f"\\{match[0]}", text)
    if not FLAT_LIST.fullmatch(text):
        raise _ill_formed()
    try:
        read = ast.literal_eval(known)
    except (SyntaxError, ValueError) as exc:
        raise _ill_formed() from exc
    values = read if isinstance(read, tuple) else (read,)
    if not all(_is_text(str(value)) for value in values):
        raise _ill_formed()
    return values


def _ill_formed() -> InvalidInput:
    return _invalid(f"{WHAT_A_LIST_IS} a non-empty list of string values, but got ill-formed list.")


# What goes with what


def _clause(compared: Compared, grammar: Grammar) -> Clause:
    entity, key, values = compared.entity, compared.key, compared.values
    if entity == "tag":
        comparator = _one_of(TEXTS, compared.comparator, "tag")
    elif key in grammar.numbers:
        comparator = _one_of(NUMBERS, compared.comparator, f"attribute {key}")
        values = (_whole(key, values[0]),)
    else:
        allowed = (*TEXTS, *LISTS) if key in grammar.lists else TEXTS
        comparator = _one_of(allowed, compared.comparator, "attribute")
    if compared.is_list and comparator not in LISTS:
        raise _invalid(f"A list goes with IN and NOT IN only, not with {comparator}.")
    return Clause(entity=entity, key=key, comparator=comparator, values=tuple(map(_stated, values)))


def _stated(value: str | int | float) -> str | int:
    return value if isinstance(value, str | int) else str(value)


def _one_of(allowed: Sequence[Comparator], comparator: str, what: str) -> Comparator:
    found = next((one for one in allowed if one == comparator), None)
    if found is None:
        raise _invalid(f"Invalid comparator for {what}: {shown(comparator)}")
    return found


def _whole(key: str, value: str | int | float) -> int:
    error = _invalid(f"Invalid value for numeric attribute '{key}': {shown(repr(value))}")
    if isinstance(value, float):
        raise error
    try:
        number = int(value)
    except ValueError as exc:
        raise error from exc
    if abs(number) > MAX_NUMBER:
        raise error
    return number


def _invalid(message: str) -> InvalidInput:
    return InvalidInput("filter", message)
