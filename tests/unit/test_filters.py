"""Filters of MLflow's clients: what is accepted, what it means, and what is said of the rest, held to MLflow's own."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.registry.errors import InvalidInput
from chalicelib.registry.filter_grammar import MAX_CLAUSES, MAX_FILTER, parse_filter
from chalicelib.registry.filters import MODELS, VERSIONS, Clause, Grammar, fixed_beginning, holds, is_like
from chalicelib.registry.models import ModelVersion
from chalicelib.registry.registered_models import PROMPT_TAG, RegisteredModel
from chalicelib.registry.search_order import MODEL_ORDERS, NEWEST_FIRST, By, in_order
from chalicelib.registry.searching import Query, attributes_of
from tests.mlflow_world import golden, models, told, versions

GRAMMARS = {"model_filters": MODELS, "version_filters": VERSIONS}

# What MLflow finds nothing by, since no tag has such a key, or what it reads with Python's help: refused here.
REFUSED = {
    "a key that is none": r"tags?\s*\.\s*(=|!=|like|ilike|\.|\*|AND|IN)|tags\.team\s+\.|tags\.f\(x\)|tags\.a\[0\]",
    "parentheses in a list": r"\(\(|\('cat', \(",
}
# What MLflow's parser stumbles over, and what is clear: as if there were an AND.
ACCEPTED = {
    "lists without AND between": r"\('cat'\)\s+name\s+IN",
    "a keyword as a part of a key": r"\.\s+(AND|OR|NOT)\s",
}
# Letters beyond ASCII are compared in any case, as by MLflow on PostgreSQL, not on SQLite.
FOUND_OTHERWISE = r"ilike\s+'[^']*[éÉ]"


def answered(text: str, grammar: Grammar) -> dict[str, Any]:
    """As the golden file has it."""
    found: list[Any]
    try:
        if grammar is MODELS:
            found = in_order(found_by(text, grammar), MODEL_ORDERS.last)
        else:
            found = in_order(found_by(text, grammar), NEWEST_FIRST)
    except InvalidInput as exc:
        return {"error": str(exc)}
    return {"found": told(found)}


def found_by(text: str, grammar: Grammar) -> list[Any]:
    query = Query(clauses=parse_filter(text, grammar), order=MODEL_ORDERS.last, limit=1)
    world: Sequence[Any] = models() if grammar is MODELS else versions()
    return [one for one in world if query.finds(one)]


@pytest.mark.parametrize("kind", GRAMMARS)
def test_what_mlflow_accepts_is_accepted_and_finds_the_same(kind: str) -> None:
    wrong = []
    for text, answer in golden()[kind]:
        ours = answered(text, GRAMMARS[kind])
        is_told = "error" in ours and any(re.search(one, text, re.IGNORECASE) for one in REFUSED.values())
        is_told = is_told or re.search(FOUND_OTHERWISE, text, re.IGNORECASE) is not None
        if "found" in answer and ours != answer and not is_told:
            wrong.append((text, answer, ours))

    assert wrong == []


@pytest.mark.parametrize("kind", GRAMMARS)
def test_what_mlflow_refuses_is_refused(kind: str) -> None:
    accepted = [
        text
        for text, answer in golden()[kind]
        if "error" in answer
        and "found" in answered(text, GRAMMARS[kind])
        and not any(re.search(one, text, re.IGNORECASE) for one in ACCEPTED.values())
    ]

    assert accepted == []


@pytest.mark.parametrize("kind", GRAMMARS)
def test_what_is_refused_is_refused_in_mlflows_words(kind: str) -> None:
    """But where MLflow's parser takes to pieces what is no comparison: there the pieces are others."""
    wrong = []
    python = r"\(b'|\(None|\(\["  # MLflow's list may be of anything that Python can read, until it is looked at
    in_pieces = "Invalid clause(s) in filter string", "Invalid comparison clause", "Search filter contained multiple"
    for text, answer in golden()[kind]:
        ours = answered(text, GRAMMARS[kind])
        if "error" not in ours or answer.get("error") is None or ours == answer:
            continue
        is_in_pieces = answer["error"].startswith(in_pieces) or ours["error"].startswith(in_pieces)
        if not is_in_pieces and not re.search(python, text):
            wrong.append((text, answer["error"], ours["error"]))

    assert wrong == []


def test_the_golden_file_has_all_kinds_of_answers() -> None:
    assert golden()["mlflow"] == "3.18.0"
    for kind in GRAMMARS:
        answers = [answer for _, answer in golden()[kind]]
        same = [one for text, one in golden()[kind] if answered(text, GRAMMARS[kind]) == one]
        assert len(answers) > 1_500
        assert sum("found" in one for one in answers) > 150
        # Words may differ where the parser gives up; there is no need that they do so often.
        assert len(same) > 0.85 * len(answers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 'a' OR name = 'b'", "Invalid clause(s) in filter string: OR"),
        ("name = a", "Parameter value is either not quoted or unidentified quote types used for string value a."),
        ("nam = 'a'", "Invalid attribute key 'nam' specified. Valid keys are '{'name'}'"),
        ("run.name = 'a'", "Invalid entity type 'run'. Valid entity types are ('attribute', 'tag', 'tags')"),
        ("name > 'a'", "Invalid comparator for attribute: >"),
        ("tags.a IN ('b')", "Expected a quoted string value for tag (e.g. 'my-value'). Got value ('b')"),
        ("tags.a IS NULL", "IS NULL / IS NOT NULL is not supported for registered model search."),
        ("name = 'a", "Invalid clause(s) in filter string: name, =, ', a"),
        ("name IN ()", "While parsing a list in the query, expected a non-empty list of string values, but got empty"),
    ],
)
def test_an_error_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_filter(text, MODELS)

    assert str(caught.value).startswith(message)
    assert caught.value.field == "filter"


@pytest.mark.parametrize(
    "text",
    [
        "x" * (MAX_FILTER + 1),
        " AND ".join(["name = 'a'"] * (MAX_CLAUSES + 1)),
        "name = '\ud800'",
        r"name IN ('\ud800')",
        r"name IN ('\N{no such name}')",
        "name IN ('a\x00b')",
        f"name IN ({'9' * 5_000})",
        f"version_number = {'9' * 5_000}",
        f"version_number = '{'9' * 5_000}'",
        f"version_number = 1e{'9' * 500}",
        "(" * 5_000,
        "name IN " + "(" * 4_000 + "'a'" + ")" * 4_000,
        "name = " + "'" * 9_001,
        "`" * 9_999,
        "not " * 2_000,
        "a." * 4_000,
        "\x00",
    ],
    ids=lambda text: text[:20].encode("ascii", "backslashreplace").decode(),
)
def test_hostile_filters_are_refused(text: str) -> None:
    for grammar in (MODELS, VERSIONS):
        with pytest.raises(InvalidInput) as caught:
            parse_filter(text, grammar)

        assert len(str(caught.value)) < 700
        str(caught.value).encode()


def test_a_value_is_taken_as_it_is_and_a_list_as_python_reads_it() -> None:
    (clause,) = parse_filter("tags.a = 'it''s'", MODELS)
    (listed,) = parse_filter(r"name IN ('it\'s', 'a\\b', 'a\d', 'b' 'c', )", MODELS)

    assert clause.values == ("it''s",)
    assert listed.values == ("it's", "a\\b", "a\\d", "bc")


# Properties

ALPHABET = st.text("abAB%_ß'İé ", max_size=8)
PIECES = (
    'name tags.a tags.`b c` tag."d" run_id source_path version_number x = != < >= LIKE ilike IN NOT AND OR IS NULL '
    "'a' \"b\" 'it''s' 1 -2 3.5 ( ) , ; . ` ' \" \\ -- /* é \x00 ('a') ('a','b') (1) \u2003 N'x' 0x1"
)
WORDS = st.sampled_from(PIECES.split(" "))


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=12).map(" ".join), st.lists(WORDS).map("".join)))
@example("name = 'a' AND AND")
def test_any_text_is_a_filter_or_refused_in_words(text: str) -> None:
    for grammar in (MODELS, VERSIONS):
        try:
            clauses = parse_filter(text, grammar)
        except InvalidInput as exc:
            str(exc).encode()
        else:
            Query(clauses=clauses, order=(By("name"),), limit=1).model_dump_json()


@given(ALPHABET, ALPHABET)
@example("ß", "_")
@example("aab", "%ab")
@example("", "%")
def test_like_is_what_a_regular_expression_says(text: str, pattern: str) -> None:
    expression = "".join({"%": ".*", "_": "."}.get(one, re.escape(one)) for one in pattern)

    assert is_like(text, pattern) == (re.fullmatch(expression, text, re.DOTALL) is not None)


@given(st.text("abAB%_", max_size=8), st.text("abAB%_", max_size=8))
def test_ilike_is_like_in_small_letters(text: str, pattern: str) -> None:
    assert is_like(text, pattern, is_any_case=True) == is_like(text.lower(), pattern.lower())


def test_a_pattern_takes_no_longer_than_both_lengths_together_allow() -> None:
    # A regular expression with as many wildcards would not end.
    assert not is_like("a" * 3_000, "%a" * 100 + "%b")


@given(ALPHABET, ALPHABET, st.sampled_from(["=", "LIKE", "ILIKE", "!="]))
def test_what_compares_so_begins_as_the_pattern_tells(text: str, pattern: str, comparator: Any) -> None:
    clause = Clause(entity="attribute", key="name", comparator=comparator, values=(pattern,))

    if holds(clause, text):
        assert text.startswith(fixed_beginning(clause))


COMPARED = st.sampled_from(["=", "!=", "LIKE", "ILIKE"])
VALUES = st.sampled_from(["vision", "Vision", "v%", "%a%", "", "a_b", "true", "TRUE", "false", "%", "cat", "s3://%"])
TAGS = st.builds(
    Clause,
    entity=st.just("tag"),
    key=st.sampled_from(["team", "level", "nothing", PROMPT_TAG]),
    comparator=COMPARED,
    values=st.tuples(VALUES),
)
NAMES = st.builds(
    Clause, entity=st.just("attribute"), key=st.just("name"), comparator=COMPARED, values=st.tuples(VALUES)
)
OF_VERSIONS = st.builds(
    Clause,
    entity=st.just("attribute"),
    key=st.sampled_from(["run_id", "source_path"]),
    comparator=COMPARED,
    values=st.tuples(VALUES),
)
NUMBERED = st.builds(
    Clause,
    entity=st.just("attribute"),
    key=st.just("version_number"),
    comparator=st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    values=st.tuples(st.integers(-1, 4)),
)


@given(st.lists(st.one_of(TAGS, NAMES), max_size=4))
def test_models_are_found_as_a_plain_evaluator_finds_them(clauses: list[Clause]) -> None:
    query = Query(clauses=tuple(clauses), order=MODEL_ORDERS.last, limit=1)

    assert [query.finds(one) for one in models()] == [plainly_found(clauses, one) for one in models()]


@given(st.lists(st.one_of(TAGS, NAMES, OF_VERSIONS, NUMBERED), max_size=4))
def test_versions_are_found_as_a_plain_evaluator_finds_them(clauses: list[Clause]) -> None:
    query = Query(clauses=tuple(clauses), order=NEWEST_FIRST, limit=1)

    assert [query.finds(one) for one in versions()] == [plainly_found(clauses, one) for one in versions()]


def plainly_found(clauses: Sequence[Clause], one: RegisteredModel | ModelVersion) -> bool:
    """The rules of MLflow's server, written down once more, without regard to anything but being plain."""
    about_prompts = [clause for clause in clauses if clause.entity == "tag" and clause.key == PROMPT_TAG]
    asks_for_prompts = False
    if about_prompts:
        asked = about_prompts[0].comparator, str(about_prompts[0].value).lower()
        asks_for_prompts = asked in (("=", "true"), ("!=", "false"))
    if not asks_for_prompts:
        if one.tags.get(PROMPT_TAG) == "true":
            return False
        clauses = [clause for clause in clauses if clause not in about_prompts]
    for clause in clauses:
        left: Any = one.tags.get(clause.key) if clause.entity == "tag" else attributes_of(one)[clause.key]
        if left is None or not plainly_compared(left, clause.comparator, clause.value):
            return False
    return True


def plainly_compared(left: Any, comparator: str, right: Any) -> bool:
    if comparator in ("LIKE", "ILIKE"):
        pattern = "".join({"%": ".*", "_": "."}.get(character, re.escape(character)) for character in right)
        flags = re.DOTALL | (re.IGNORECASE if comparator == "ILIKE" else 0)
        return re.fullmatch(pattern, left, flags) is not None
    return bool(
        {
            "=": left == right,
            "!=": left != right,
            "<": str(left) != str(right) and left < right,
            "<=": str(left) == str(right) or left < right,
            ">": str(left) != str(right) and left > right,
            ">=": str(left) == str(right) or left > right,
        }[comparator]
    )
