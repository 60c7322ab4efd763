"""Searches of MLflow's clients: orders, pages and their tokens, and how names may be stated."""

import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.registry.access import Access, Actor, Project
from chalicelib.registry.errors import InvalidInput
from chalicelib.registry.models import ModelVersion
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.registry.search_order import (
    MODEL_ORDERS,
    NEWEST_FIRST,
    VERSION_ORDERS,
    By,
    Position,
    in_order,
    is_behind,
    order_of,
    place_of,
)
from chalicelib.registry.searching import Query, Searching, after_token, token_of
from tests.mlflow_world import golden, models, told, versions

ANYBODY = Actor()
LIMITED = Actor(access=Access(projects=(Project(name="vision"),)))
GARBAGE = "Invalid page token, could not base64-decode"
# Quotes around the name of a field, and blanks around all: refused by MLflow, or not, as its parser has it.
CLEAR = [["`name`"], ['"name"'], [" name DESC "]]


class Everything:
    """A ModelSearch that reads a list."""

    def __init__(self, found: Sequence[RegisteredModel] | Sequence[ModelVersion]) -> None:
        self.found: Sequence[Any] = found
        self.asked: list[Query] = []

    def models(self, query: Query, within: Access) -> tuple[Sequence[RegisteredModel], Position | None]:
        return self._page(query)

    def versions(self, query: Query, within: Access) -> tuple[Sequence[ModelVersion], Position | None]:
        return self._page(query)

    def _page(self, query: Query) -> tuple[Sequence[Any], Position | None]:
        self.asked.append(query)
        found = in_order([one for one in self.found if query.finds(one)], query.order)
        if query.after is not None:
            found = [one for one in found if is_behind(place_of(one, query.order), query.after, query.order)]
        page = found[: query.limit]
        return page, place_of(page[-1], query.order) if len(page) < len(found) else None


def ordered(kind: str, order_by: list[str]) -> dict[str, Any]:
    """As the golden file has it."""
    try:
        if kind == "model_orders":
            found: Sequence[Any] = Searching(Everything(models())).models("", order_by, 1000, None, ANYBODY)[0]
        else:
            found = Searching(Everything(versions())).versions("", order_by, 1000, None, ANYBODY)[0]
    except InvalidInput as exc:
        return {"error": str(exc)}
    return {"found": told(found)}


@pytest.mark.parametrize("kind", ["model_orders", "version_orders"])
def test_what_comes_is_in_the_order_in_which_it_comes_from_mlflow(kind: str) -> None:
    wrong = []
    for stated, answer in golden()[kind]:
        ours = ordered(kind, stated)
        if ("found" in answer or "found" in ours) and ours != answer and stated not in CLEAR:
            wrong.append((stated, answer, ours))

    assert wrong == []


@pytest.mark.parametrize(
    ("orders", "stated", "message"),
    [
        (MODEL_ORDERS, ["version"], "Invalid order by key 'version' specified. Valid keys are '{'name', 'timestamp'}'"),
        (MODEL_ORDERS, ["name x"], "Invalid ordering key in order_by clause 'name x'."),
        (MODEL_ORDERS, ["name ASC x"], "Invalid order_by clause 'name ASC x'. Could not be parsed."),
        (MODEL_ORDERS, [""], "Invalid order_by clause ''. Could not be parsed."),
        (MODEL_ORDERS, ["name", "name DESC"], "`order_by` contains duplicate fields: ['name', 'name DESC']"),
        (MODEL_ORDERS, ["name"] * 11, "An order has at most 10 parts."),
        (
            VERSION_ORDERS,
            ["run_id"],
            "Invalid attribute key 'run_id' specified. Valid keys are"
            " '{'creation_timestamp', 'last_updated_timestamp', 'name', 'version_number'}'",
        ),
    ],
)
def test_an_order_that_there_is_not_is_refused(orders: Any, stated: list[str], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        order_of(stated, orders)

    assert str(caught.value) == message
    assert caught.value.field == "order_by"


PARTS = st.lists(
    st.builds(By, st.sampled_from(["name", "version", "created", "changed"]), st.booleans()),
    unique_by=lambda part: part.field,
)


@given(PARTS)
def test_sorted_and_behind_say_the_same(parts: list[By]) -> None:
    order = (*parts, *(part for part in VERSION_ORDERS.last if part.field not in {one.field for one in parts}))
    places = [place_of(one, order) for one in in_order(versions(), order)]

    for before, behind in pairwise(places):
        assert is_behind(behind, before, order)
        assert not is_behind(before, behind, order)


# Pages


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
@pytest.mark.parametrize("order_by", [[], ["name DESC"], ["version_number", "name DESC"], ["creation_timestamp ASC"]])
def test_pages_have_everything_once(order_by: list[str], limit: int) -> None:
    searching = Searching(Everything(versions()))
    whole, end = searching.versions("", order_by, 1000, None, ANYBODY)

    found: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page, token = searching.versions("", order_by, limit, token or None, ANYBODY)
        found += page

    assert end is None
    assert found == list(whole)


def test_a_page_has_no_more_than_is_asked_for_nor_than_fits() -> None:
    search = Everything(versions())

    Searching(search).versions("", [], 200_000, None, ANYBODY)
    Searching(search).versions("", [], 3, None, ANYBODY)

    assert [query.limit for query in search.asked] == [10_000, 3]


@pytest.mark.parametrize(
    ("most", "asked", "message"),
    [
        (1000, 1001, "Invalid value for request parameter max_results. It must be at most 1000, but got value 1001"),
        (1000, 0, "Invalid value for max_results. It must be a positive integer, but got 0"),
        (1000, -1, "Invalid value for max_results. It must be a positive integer, but got -1"),
        (
            200_000,
            200_001,
            "Invalid value for request parameter max_results. It must be at most 200000, but got value 200001",
        ),
        (200_000, 0, "Invalid value for max_results. It must be a positive integer, but got 0"),
    ],
)
def test_how_many_may_be_asked_for(most: int, asked: int, message: str) -> None:
    searching = Searching(Everything([]))
    search = searching.models if most == 1000 else searching.versions

    search("", [], most, None, ANYBODY)
    with pytest.raises(InvalidInput) as caught:
        search("", [], asked, None, ANYBODY)

    assert str(caught.value) == message


def test_where_an_answer_was_cut_the_rest_comes_next() -> None:
    searching = Searching(Everything(models()))
    page, token = searching.models("name LIKE '%a%'", ["name DESC"], 100, None, ANYBODY)

    cut = searching.token_behind(page[1], "name LIKE '%a%'", ["name DESC"], ANYBODY)
    rest, end = searching.models("name LIKE '%a%'", ["name DESC"], 100, cut, ANYBODY)

    assert (token, end) == (None, None)
    assert [*page[:2], *rest] == list(page)


# Tokens

BY_CHANGE = Query(order=NEWEST_FIRST, limit=1)
BY_NAME = Query(order=MODEL_ORDERS.last, limit=1)
LONGEST = "\U0001f600" * 513  # a project and a name of 256 characters


@pytest.mark.parametrize("name", ["cat", "é\n", LONGEST, "", '"\\'])
def test_a_token_is_a_position_again(name: str) -> None:
    token = token_of(BY_NAME, (name,))

    assert token is not None
    assert len(token) < 5_000
    assert after_token(BY_NAME, token).after == (name,)


def encoded(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def fingerprint(query: Query) -> str:
    token = token_of(query, ("a",) if query is BY_NAME else (1, "a", 1))
    return str(json.loads(base64.urlsafe_b64decode(str(token)))[0])


@pytest.mark.parametrize(
    "token",
    [
        *["x", "%%%", "é", "\ud800", "YQ==", "/w==", encoded(5), encoded(None), "A" * 9_000],
        *[base64.b64encode(one * 5_000).decode() for one in (b"[", b"9")],
    ],
    ids=lambda token: token[:12].encode("ascii", "backslashreplace").decode(),
)
def test_what_is_no_token_is_refused_as_by_mlflow(token: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        after_token(BY_NAME, token)

    assert str(caught.value) == GARBAGE
    assert caught.value.field == "page_token"


@pytest.mark.parametrize(
    "position",
    [[], [1], ["a", "b"], [None], [True], [["a"]], [{}], ["\ud800"], ["x" * 1_001], [1.5]],
    ids=lambda position: json.dumps(position)[:20],
)
def test_a_token_with_another_kind_of_position_is_refused(position: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="of another search"):
        after_token(BY_NAME, encoded([fingerprint(BY_NAME), *position]))


@pytest.mark.parametrize(
    "position",
    [[10**15, "a", 1], [-2, "a", 1], [1, "a", 10**400], [1.0, "a", 1], [True, "a", 1], ["1", "a", 1], [1, "a"]],
    ids=lambda position: json.dumps(position)[:20],
)
def test_a_token_with_numbers_that_no_key_may_have_is_refused(position: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="of another search"):
        after_token(BY_CHANGE, encoded([fingerprint(BY_CHANGE), *position]))


@pytest.mark.parametrize("changed", [("name = 'a'", ["name"]), ("name LIKE 'b%'", ["name"]), ("", ["name DESC"])])
def test_a_token_is_of_one_search_only(changed: tuple[str, list[str]]) -> None:
    searching = Searching(Everything(models()))
    _, token = searching.models("", ["name"], 1, None, ANYBODY)

    searching.models("", ["name"], 50, token, ANYBODY)
    with pytest.raises(InvalidInput, match="of another search"):
        searching.models(*changed, 1, token, ANYBODY)


@given(st.one_of(st.text(), st.binary().map(lambda one: base64.b64encode(one).decode()), st.from_type(int).map(str)))
def test_any_token_is_one_or_refused(token: str) -> None:
    for query in (BY_NAME, BY_CHANGE):
        with suppress(InvalidInput):
            assert after_token(query, token) == query  # an empty one


# Names


@pytest.mark.parametrize(
    ("filter_", "values"),
    [
        ("name = 'cat'", ("cat", "vision.cat")),
        ("name IN ('cat', 'dog')", ("cat", "dog", "vision.cat", "vision.dog")),
    ],
)
def test_who_sees_one_project_may_leave_it_away(filter_: str, values: tuple[str, ...]) -> None:
    search = Everything([])

    Searching(search).models(filter_, [], 1, None, LIMITED)
    Searching(search).versions(filter_, [], 1, None, LIMITED)

    assert [query.clauses[0].comparator for query in search.asked] == ["IN", "IN"]
    assert [query.clauses[0].values for query in search.asked] == [values, values]


def test_what_is_not_called_so_is_not_called_so_with_its_project_either() -> None:
    search = Everything([])

    Searching(search).models("name != 'cat'", [], 1, None, LIMITED)

    assert search.asked[0].clauses[0].comparator == "NOT IN"
    assert search.asked[0].clauses[0].values == ("cat", "vision.cat")


@pytest.mark.parametrize("filter_", ["name LIKE 'cat%'", "tags.name = 'cat'"])
def test_patterns_and_tags_stay_as_they_are(filter_: str) -> None:
    search = Everything([])

    Searching(search).models(filter_, [], 1, None, LIMITED)
    Searching(search).models(filter_, [], 1, None, ANYBODY)

    assert search.asked[0].clauses == search.asked[1].clauses
