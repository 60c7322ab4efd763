"""Searches of MLflow's clients on the table: whole, in order, bounded, and blind for what is not seen."""

import base64
import itertools
import random
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from pynamodb.connection.table import TableConnection

from chalicelib.registry.access import EVERYWHERE, MAX_NAME_PREFIXES, Access, Project
from chalicelib.registry.errors import InvalidInput, Unavailable
from chalicelib.registry.filter_grammar import MAX_CLAUSES, parse_filter
from chalicelib.registry.filters import MODELS, VERSIONS
from chalicelib.registry.models import Lineage, ModelVersion
from chalicelib.registry.registered_models import PROMPT_TAG, RegisteredModel
from chalicelib.registry.search_order import MODEL_ORDERS, NEWEST_FIRST, VERSION_ORDERS, in_order, order_of
from chalicelib.registry.searching import Query
from chalicelib.store import model_search, ordered_rows
from chalicelib.store.keys import META, exposed_name_key, name_key, project_digest, registered_model_key
from chalicelib.store.ordered_rows import Bounds, OrderedRows, Reading
from chalicelib.store.schema import ClaimItem, NameItem, PointerItem
from chalicelib.store.search_conditions import models_like, versions_like
from chalicelib.store.search_rows import ChangeRow, ModelRow, TagRow
from chalicelib.store.spilling import TagsItem, piece_key
from chalicelib.store.version_rows import listed_rows
from tests import mlflow_world
from tests.conftest import ulids
from tests.mlflow_world import at, golden, told
from tests.store.faults import nothing, throttled, watched_calls
from tests.store.search_stage import Shelf, drop, pages, put, registered_model, shelve, version_of

VISION, AUDIO = Project(name="vision"), Project(name="audio")


@pytest.fixture
def shelf(aws: None) -> Shelf:
    return Shelf()


@pytest.fixture
def small_reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has a Query read so few rows, as if they were large."""

    def set_(rows: int) -> None:
        original = TableConnection.query

        def query(self: TableConnection, *arguments: Any, **options: Any) -> Any:
            options["limit"] = min(rows, options.get("limit") or rows)
            return original(self, *arguments, **options)

        monkeypatch.setattr(TableConnection, "query", query)

    return set_


def names(found: Sequence[RegisteredModel]) -> list[str]:
    return [one.exposed_name for one in found]


def numbers(found: Sequence[ModelVersion]) -> list[tuple[str, int]]:
    return [(one.name, one.number) for one in found]


def many(count: int, **fields: Any) -> list[RegisteredModel]:
    return [registered_model(f"model {number:04}", 1_000 + number, **fields) for number in range(count)]


# As the pure search


@pytest.fixture
def world(shelf: Shelf) -> Shelf:
    """What MLflow was asked about."""
    ids = {one.name: one.rm_id for one in mlflow_world.models()}
    shelve(
        mlflow_world.models(),
        [one.model_copy(update={"rm_id": ids[one.name]}) for one in mlflow_world.versions()],
    )
    return shelf


@pytest.mark.parametrize(("limit", "every"), [(2, 3), (1_000, 1)])
def test_registered_models_are_found_as_mlflow_finds_them(world: Shelf, limit: int, every: int) -> None:
    wrong = []
    for text, answer in golden()["model_filters"][::every]:
        if "found" in answer and not is_odd(text):
            ours = told(world.all_models(text, limit=limit))
            if ours != answer["found"]:
                wrong.append((text, answer["found"], ours))

    assert wrong == []


@pytest.mark.parametrize(("limit", "every"), [(2, 3), (1_000, 1)])
def test_versions_are_found_as_mlflow_finds_them(world: Shelf, limit: int, every: int) -> None:
    wrong = []
    for text, answer in golden()["version_filters"][::every]:
        if "found" in answer and not is_odd(text):
            ours = told(world.all_versions(text, limit=limit))
            if ours != answer["found"]:
                wrong.append((text, answer["found"], ours))

    assert wrong == []


def is_odd(text: str) -> bool:
    """What tests/unit/test_filters.py says of it."""
    try:
        parse_filter(text, VERSIONS if "version_number" in text or "run_id" in text else MODELS)
    except InvalidInput:
        return "source_path" not in text
    return any(letter in text for letter in "éÉ")


@pytest.mark.parametrize("limit", [1, 3, 1_000])
@pytest.mark.parametrize("kind", ["model_orders", "version_orders"])
def test_what_is_found_is_in_the_order_in_which_mlflow_has_it(world: Shelf, kind: str, limit: int) -> None:
    search: Any = world.all_models if kind == "model_orders" else world.all_versions
    for stated, answer in golden()[kind]:
        if "found" in answer:
            assert told(search("", stated, limit=limit)) == answer["found"], stated


SOME = {
    "models": [
        *["", "name LIKE 'a%'", "name ILIKE '%B%'", "tags.t = '1'", "tags.t LIKE '1%'", "tags.t != '1'"],
        *["name IN ('ab', 'cd', 'no')", "name != 'ab' AND tags.u = 'x'", f"tags.`{PROMPT_TAG}` = 'true'"],
    ],
    "versions": [
        *["", "name LIKE 'a%'", "name = 'ab'", "name IN ('ab', 'cd')", "run_id = 'r1'", "run_id IN ('r1', 'r2')"],
        *["version_number >= 2", "tags.t = '1'", "source_path LIKE 's3://e%/1'", "name = 'ab' AND tags.t != '1'"],
    ],
}
CASES = [
    (kind, filter_, order_by)
    for kind, filters in SOME.items()
    for filter_ in filters
    for order_by in (
        [[], ["name DESC"], ["timestamp"], ["timestamp DESC"]]
        if kind == "models"
        else [[], ["name DESC"], ["version_number"], ["creation_timestamp DESC"], ["last_updated_timestamp"]]
    )
]
ACCESSES = [
    EVERYWHERE,
    Access(projects=(VISION,)),
    Access(projects=(VISION, AUDIO)),
    Access(name_prefixes=("a", "c")),
    Access(projects=(VISION, AUDIO), name_prefixes=("a",)),
]


def mixed(seed: int) -> tuple[list[RegisteredModel], list[ModelVersion]]:
    """Much of what may differ, of which some is the same."""
    dice, new_id = random.Random(seed), ulids()
    models: list[RegisteredModel] = []
    versions: list[ModelVersion] = []
    for name, project in itertools.product(["ab", "cd", "aa", "b", "ca", "zz"], [None, "vision", "audio", "hidden"]):
        tags = {"t": dice.choice("123"), "u": dice.choice("xy")}
        tags |= {PROMPT_TAG: "true"} if dice.random() < 0.2 else {}
        model = registered_model(name, dice.randrange(5), tags=tags, project_name=project, rm_id=new_id())
        models.append(model)
        for number in range(1, dice.randint(1, 4)):
            lineage = Lineage(source=f"s3://elsewhere/{number}", run_id=dice.choice([None, "r1", "r2"]))
            fields: dict[str, Any] = {
                "lineage": lineage,
                "tags": {"t": dice.choice("12")},
                "created": dice.randrange(3),
            }
            versions.append(version_of(model, number, dice.randrange(4), **fields))
    return models, versions


def expected(kind: str, filter_: str, order_by: list[str], within: Access, found: Sequence[Any]) -> list[Any]:
    """By the definition."""
    orders = MODEL_ORDERS if kind == "models" else VERSION_ORDERS
    order = NEWEST_FIRST if kind == "versions" and not order_by else order_of(order_by, orders)
    query = Query(clauses=parse_filter(filter_, MODELS if kind == "models" else VERSIONS), order=order, limit=1)
    return in_order([one for one in found if within.sees(one.qualified_name) and query.finds(one)], order)


@pytest.mark.parametrize("within", ACCESSES, ids=["all", "a project", "projects", "prefixes", "both"])
@pytest.mark.parametrize(("rows", "limit"), [(17, 11), (1_000, 1_000)])
def test_every_search_finds_what_its_definition_says(
    shelf: Shelf, small_reads: Callable[[int], None], rows: int, limit: int, within: Access
) -> None:
    models, versions = mixed(seed=1)
    shelve(models, versions)
    small_reads(rows)

    for kind, filter_, order_by in CASES:
        if within.projects and len(within.projects) == 1 and "name" in filter_ and "LIKE" not in filter_:
            continue  # names without the project in front
        search: Any = shelf.all_models if kind == "models" else shelf.all_versions
        found = search(filter_, order_by, limit=limit, within=within)
        wanted = expected(kind, filter_, order_by, within, models if kind == "models" else versions)
        assert [id_of(one) for one in found] == [id_of(one) for one in wanted], (kind, filter_, order_by)


def id_of(found: Any) -> str:
    return str(found.rm_id if isinstance(found, RegisteredModel) else found.id)


# Bounds


@pytest.mark.parametrize("within", ACCESSES, ids=["all", "a project", "projects", "prefixes", "both"])
@pytest.mark.parametrize("queries", [1, 2, 5])
def test_a_search_that_stops_at_its_bound_goes_on_without_loss_or_repetition(
    shelf: Shelf,
    small_reads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    queries: int,
    within: Access,
) -> None:
    models, versions = mixed(seed=2)
    shelve(models, versions)
    small_reads(6)
    monkeypatch.setattr(ordered_rows, "MAX_QUERIES", queries)

    for kind, filter_, order_by in CASES:
        is_by_rows = kind == "models" or not order_by or order_by[0].startswith("last")
        is_named = "name = " in filter_ or "IN ('ab'" in filter_
        if not is_by_rows or is_named:
            continue
        # A crowd of one millisecond has to be read as a whole: here it is larger than a page.
        if any(is_by_time in str(order_by or kind) for is_by_time in ("timestamp", "versions")) and queries < 5:
            continue
        search: Any = shelf.all_models if kind == "models" else shelf.all_versions
        found = search(filter_, order_by, limit=1_000, within=within)
        asked: Sequence[Any] = models if kind == "models" else versions
        wanted = expected(kind, filter_, order_by, within, asked)
        assert [id_of(one) for one in found] == [id_of(one) for one in wanted], (kind, filter_, order_by)


@pytest.mark.parametrize("order_by", [["timestamp"], ["timestamp DESC"]])
@pytest.mark.parametrize("prefixes", [None, ("model 1", "model 5")])
def test_projects_that_take_turns_are_told_in_order_across_bounds(
    shelf: Shelf,
    small_reads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    order_by: list[str],
    prefixes: tuple[str, ...] | None,
) -> None:
    dice = random.Random(6)
    models = [
        registered_model(f"model {n}", n, project_name="audio" if dice.random() < 0.8 else "vision") for n in range(80)
    ]
    shelve(models, [version_of(one, 1, one.last_changed_at.microsecond // 1_000) for one in models])
    small_reads(3)
    monkeypatch.setattr(ordered_rows, "MAX_QUERIES", 5)
    within = Access(projects=(AUDIO, VISION), name_prefixes=prefixes)
    seen = [one for one in models if within.sees(one.qualified_name)]

    found = list(pages(partial(shelf.models, "tags.a = 'b'", order_by, within=within)))
    all_of_them = shelf.all_models("", order_by, within=within)
    versions = shelf.all_versions(
        "", [one.replace("timestamp", "last_updated_timestamp") for one in order_by], within=within
    )

    assert len(found) > 3
    assert names(all_of_them) == names(in_order(seen, order_of(order_by, MODEL_ORDERS)))
    assert [one.rm_id for one in versions] == [one.rm_id for one in all_of_them]


@pytest.mark.parametrize(("is_ascending", "edge"), [(True, "00002#a"), (False, "00098#a")])
def test_the_edge_is_where_the_first_partition_was_left(
    shelf: Shelf,
    small_reads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    is_ascending: bool,
    edge: str,
) -> None:
    """What comes next of all is known only as far as each was read: behind that, rows of it may be missing."""
    places = {"a": range(1, 100), "b": range(10, 100, 10)}
    put([ChangeRow(pk, f"{n:05}#{pk}", target="x", exact_name="hidden") for pk, times in places.items() for n in times])
    seen = 3 if is_ascending else 97
    put([ChangeRow("a", f"{seen:05}#seen", target="x", exact_name="seen")])
    small_reads(2)
    monkeypatch.setattr(ordered_rows, "MAX_QUERIES", 3)
    reading = Reading(ChangeRow, ["a", "b"], is_ascending, condition=ChangeRow.exact_name == "seen")

    with ThreadPoolExecutor(2) as threads:
        rows = OrderedRows(reading, Bounds(lambda: 0), shelf.retry, threads)
        found = list(rows)

    assert (found, rows.edge, rows.is_exhausted) == ([], edge, False)


def test_a_request_makes_no_more_queries_than_it_may(
    shelf: Shelf, small_reads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelve(many(60))
    small_reads(2)
    monkeypatch.setattr(ordered_rows, "MAX_QUERIES", 8)

    with watched_calls(nothing, nothing) as calls:
        found, token = shelf.models("name ILIKE '%0059'")

    assert calls == ["Query"] * 8
    assert (found, token is not None) == ([], True)
    assert names(shelf.all_models("name ILIKE '%0059'")) == ["model 0059"]


def test_a_request_ends_when_its_time_is_up_and_the_next_goes_on(shelf: Shelf) -> None:
    models = many(500)
    shelve(models)
    ticks = itertools.count()
    shelf.searching = shelf.searching_at(lambda: next(ticks) * 10.0)

    with watched_calls(nothing, nothing) as calls:
        shelf.models("name ILIKE '%m%' AND tags.nothing != 'x'", limit=10)
    found = list(pages(partial(shelf.models, "tags.nothing != 'x'", limit=10)))
    by_change = list(pages(partial(shelf.models, "name LIKE '%9_'", ["timestamp DESC"], limit=300)))

    assert calls == ["Query", "BatchGetItem"]
    assert len(found) > 1
    assert [one for page in found for one in page] == []
    assert names([one for page in by_change for one in page]) == [
        one.name for one in reversed(models) if one.name[-2] == "9"
    ]


def test_an_order_for_which_too_much_has_to_be_read_is_refused(
    shelf: Shelf, small_reads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = registered_model("cat")
    shelve([model], [version_of(model, number) for number in range(1, 30)])
    small_reads(2)
    monkeypatch.setattr(ordered_rows, "MAX_QUERIES", 8)

    with pytest.raises(InvalidInput, match="too many versions to sort") as caught:
        shelf.versions("", ["version_number"])

    assert caught.value.field == "order_by"
    assert len(shelf.versions("name = 'cat'", ["version_number"])[0]) == 29


def test_versions_of_one_millisecond_that_are_more_than_a_request_may_read_are_refused_not_repeated(
    shelf: Shelf, small_reads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = registered_model("cat")
    shelve([model], [version_of(model, number, changed=5) for number in range(1, 30)])
    small_reads(2)
    monkeypatch.setattr(ordered_rows, "MAX_QUERIES", 8)

    first, token = shelf.versions()

    assert first == []
    with pytest.raises(InvalidInput, match="too many versions to sort"):
        shelf.versions(token=token)


def test_more_versions_of_a_name_than_are_read_at_once_are_found_by_their_rows(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = registered_model("cat"), registered_model("dog")
    shelve([model, other], [version_of(model, n, 100 - n) for n in range(1, 20)] + [version_of(other, 1)])
    monkeypatch.setattr(model_search, "MAX_MEMBERS", 10)

    found = shelf.all_versions("name = 'cat'", limit=7)
    sorted_ = shelf.all_versions("name = 'cat'", ["version_number DESC"], limit=7)

    assert [one.number for one in found] == list(range(1, 20))
    assert [one.number for one in sorted_] == list(range(19, 0, -1))


def test_a_tag_that_many_have_is_found_by_names(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    models = many(30, tags={"a": "b"})
    shelve([*models, registered_model("other", tags={"a": "c"})])
    monkeypatch.setattr(model_search, "MAX_TAGGED", 10)

    assert names(shelf.all_models("tags.a = 'b'", limit=9)) == names(models)


def test_a_page_ends_before_its_answer_gets_too_large(shelf: Shelf) -> None:
    """In JSON within JSON a quote has four bytes, and a tag more names than here."""
    text = '"' * 7_000
    models = [registered_model(f"model {n:03}", n, tags={"a": text, "b": text}) for n in range(200)]
    versions = [version_of(models[0], n, n, description=text, tags={"a": text}) for n in range(1, 200)]
    shelve(models, versions)

    for filter_, found in [("", shelf.models), ("name = 'model 000'", shelf.versions), ("", shelf.versions)]:
        told_pages = list(pages(partial(found, filter_)))
        sizes = [sum(len(one.model_dump_json()) for one in page) for page in told_pages]
        assert len(told_pages) > 1
        assert all(size < 4_000_000 for size in sizes)
        ids = [id_of(one) for page in told_pages for one in page]
        assert sorted(ids) == sorted(set(ids))
        assert len(ids) in (199, 200)


# Costs


@pytest.mark.parametrize(
    ("filter_", "order_by", "limit", "expected_calls"),
    [
        ("", [], 100, ["BatchGetItem", "Query"]),
        ("tag.`mlflow.prompt.is_prompt` != 'true'", [], 100, ["BatchGetItem", "Query"]),
        ("", ["name DESC"], 100, ["BatchGetItem", "Query"]),
        ("", ["timestamp DESC"], 100, ["BatchGetItem", "Query"]),
        ("name LIKE 'model 00%'", [], 100, ["BatchGetItem", "Query"]),
        ("name ILIKE '%MODEL%'", [], 100, ["BatchGetItem", "Query"]),
        ("name = 'model 0007'", [], 100, ["BatchGetItem", "BatchGetItem"]),
        ("name IN ('model 0007', 'model 0009')", [], 100, ["BatchGetItem", "BatchGetItem"]),
        ("tags.few = '1'", [], 100, ["BatchGetItem", "Query"]),
        ("tags.few LIKE '1%'", [], 100, ["BatchGetItem", "Query"]),
        ("name = 'nothing'", [], 100, ["BatchGetItem"]),
        ("", [], 1_000, ["BatchGetItem"] * 3 + ["Query"]),
    ],
)
def test_what_a_search_of_models_costs(
    shelf: Shelf, filter_: str, order_by: list[str], limit: int, expected_calls: list[str]
) -> None:
    models = many(300)
    shelve([*models[:-1], models[-1].model_copy(update={"tags": {"few": "1"}})])

    with watched_calls(nothing, nothing) as calls:
        shelf.models(filter_, order_by, limit)

    assert sorted(calls) == expected_calls


@pytest.mark.parametrize(
    ("filter_", "order_by", "limit", "expected_calls"),
    [
        ("", [], 100, ["BatchGetItem", "Query"]),
        ("run_id = 'r7'", [], 10_000, ["BatchGetItem", "Query"]),
        ("source_path = 's3://elsewhere/7'", [], 10_000, ["BatchGetItem", "Query"]),
        ("tags.a = '7'", [], 10_000, ["BatchGetItem", "Query"]),
        ("version_number > 299", [], 10_000, ["BatchGetItem", "Query"]),
        ("", ["version_number DESC"], 100, ["BatchGetItem", "Query"]),
        ("", ["creation_timestamp"], 100, ["BatchGetItem", "Query"]),
        # The claim of the name, the registered model, its numbers, then its versions.
        ("name = 'cat'", [], 10_000, ["BatchGetItem"] * 5 + ["Query"]),
        ("name = 'nothing'", [], 10_000, ["BatchGetItem"]),
        ("", [], 10_000, ["BatchGetItem"] * 3 + ["Query"]),
    ],
)
def test_what_a_search_of_versions_costs(
    shelf: Shelf, filter_: str, order_by: list[str], limit: int, expected_calls: list[str]
) -> None:
    model = registered_model("cat")
    versions = [
        version_of(
            *(model, number, number),
            lineage=Lineage(source=f"s3://elsewhere/{number}", run_id=f"r{number}"),
            tags={"a": str(number)},
        )
        for number in range(1, 301)
    ]
    shelve([model], versions)

    with watched_calls(nothing, nothing) as calls:
        shelf.versions(filter_, order_by, limit)

    assert sorted(calls) == expected_calls


def test_prompts_are_passed_over_without_reading_them(shelf: Shelf) -> None:
    shelve([*many(150, tags={PROMPT_TAG: "true"}), registered_model("other")])

    with watched_calls(nothing, nothing) as calls:
        found, _ = shelf.models(limit=100)

    assert names(found) == ["other"]
    assert calls == ["Query", "Query", "BatchGetItem"]


def test_projects_are_read_at_once_and_nothing_else_is(shelf: Shelf) -> None:
    shelve([registered_model(f"model {n}", project_name=name) for n in range(3) for name in ("vision", "audio", "x")])

    with watched_calls(nothing, nothing) as calls:
        found, _ = shelf.models(within=Access(projects=(VISION, AUDIO)))

    assert len(found) == 6
    assert sorted(calls) == ["BatchGetItem", "Query", "Query"]


def test_who_is_limited_to_projects_reads_nothing_of_others(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelve(*mixed(seed=8))
    original, read = TableConnection.query, set()

    def query(self: TableConnection, pk: str, *arguments: Any, **options: Any) -> Any:
        read.add(pk)
        return original(self, pk, *arguments, **options)

    monkeypatch.setattr(TableConnection, "query", query)
    for kind, filter_, order_by in CASES:
        if "name = " not in filter_ and "name IN" not in filter_:
            search: Any = shelf.all_models if kind == "models" else shelf.all_versions
            search(filter_, order_by, within=Access(projects=(VISION,)))

    digest = project_digest(None, "vision")
    assert read == {f"SEARCH-{rows}#{digest}" for rows in ("NAMES", "CHANGES", "VERSIONS")}


def test_no_search_scans(shelf: Shelf) -> None:
    shelve(*mixed(seed=3))

    with watched_calls(nothing, nothing) as calls:
        for kind, filter_, order_by in CASES:
            search: Any = shelf.all_models if kind == "models" else shelf.all_versions
            search(filter_, order_by)

    assert set(calls) == {"BatchGetItem", "Query"}


def test_throttled_reads_are_repeated_and_end_in_words(shelf: Shelf) -> None:
    shelve(many(5))

    def once(operation: str, number: int) -> None:
        if number % 2 == 0:
            raise throttled(operation)

    def always(operation: str, number: int) -> None:
        raise throttled(operation)

    with watched_calls(once, nothing):
        assert len(shelf.models()[0]) == 5
    ticks = itertools.count()
    shelf.retry._monotonic = lambda: float(next(ticks))
    with watched_calls(always, nothing), pytest.raises(Unavailable):
        shelf.models()


# While others change things


def interleaved(search: Callable[..., Any], step: Callable[[int], None], limit: int, *asked: Any) -> list[Any]:
    found: list[Any] = []
    for number, page in enumerate(pages(partial(search, *asked, limit=limit))):
        found += page
        step(number)
    return found


@pytest.mark.parametrize("order_by", [[], ["name DESC"], ["timestamp"], ["timestamp DESC"]])
def test_what_stays_is_found_once_while_others_come_and_go(shelf: Shelf, order_by: list[str]) -> None:
    stay = [registered_model(f"{letter}{n}", 10 * n) for letter in "bdf" for n in range(8)]
    go = [registered_model(f"{letter}{n} goes", 10 * n + 5) for letter in "bdf" for n in range(8)]
    shelve([*stay, *go])
    dice = random.Random(4)

    def change(number: int) -> None:
        gone = dice.choice(go)
        drop([NameItem(name_key(gone), META), *ModelRow.rows_of(gone, "")])
        new = [registered_model(f"{dice.choice('ace')}{number}{n}", dice.randrange(90)) for n in range(3)]
        shelve(new)

    found = interleaved(shelf.models, change, 5, "", order_by)

    assert [one for one in found if one in stay] == in_order(stay, order_of(order_by, MODEL_ORDERS))


@pytest.mark.parametrize("order_by", [[], ["last_updated_timestamp"]])
def test_what_changes_meanwhile_is_found_once_at_most_and_the_rest_once(shelf: Shelf, order_by: list[str]) -> None:
    model = registered_model("cat")
    versions = {n: version_of(model, n, 10 * n) for n in range(1, 41)}
    shelve([model], list(versions.values()))
    dice = random.Random(5)
    changed: set[int] = set()

    def change(_: int) -> None:
        before = versions[dice.randint(1, 40)]
        after = before.model_copy(update={"changed_at": at(dice.randrange(1_000)), "description": "changed"})
        drop(listed_rows(before))
        shelve([], [after])
        versions[after.number] = after
        changed.add(after.number)

    found = [one.number for one in interleaved(shelf.versions, change, 4, "", order_by)]

    stayed = [n for n in (range(1, 41) if order_by else range(40, 0, -1)) if n not in changed]
    assert [n for n in found if n not in changed] == stayed


def test_what_changes_between_its_row_and_its_record_is_told_once(shelf: Shelf) -> None:
    model = registered_model("cat")
    versions = {n: version_of(model, n, 10 * n) for n in range(1, 7)}
    shelve([model], list(versions.values()))

    def touched(number: int, changed: int) -> Callable[[str, int], None]:
        def touch(operation: str, count: int) -> None:
            if count == 0:
                moved = versions[number].model_copy(update={"changed_at": at(changed)})
                drop(listed_rows(versions[number]))
                shelve([], [moved])

        return touch

    with watched_calls(nothing, touched(2, 500)):
        newest, token = shelf.versions(limit=6)
    with watched_calls(nothing, touched(3, 600)):
        oldest = shelf.all_versions("", ["last_updated_timestamp"], limit=2)

    assert [one.number for one in newest] == [2, 6, 5, 4, 3, 1]
    assert token is None
    assert [one.number for one in oldest] == [1, 4, 5, 6, 2, 3]


@pytest.mark.parametrize(("new_name", "found"), [("y", ["a", "c", "d", "x", "y"]), ("0", ["0", "a", "c", "d", "x"])])
def test_what_is_renamed_between_its_row_and_its_record_is_told_once(
    shelf: Shelf, new_name: str, found: list[str]
) -> None:
    before = registered_model("b")
    after = registered_model(new_name, rm_id=before.rm_id)
    shelve([before, *map(registered_model, "acdx")])

    def rename(_: str, count: int) -> None:
        if count == 0:
            drop([NameItem(name_key(before), META), *ModelRow.rows_of(before, "")])
            shelve([after])

    with watched_calls(nothing, rename):
        told_names = names(shelf.all_models(limit=2))

    assert told_names == found


def test_tags_that_change_between_two_reads_are_read_again(shelf: Shelf) -> None:
    before = registered_model("cat", tags={"a": random.Random(7).randbytes(20_000).hex()})
    after = before.model_copy(update={"tags": {"a": "b"}})
    shelve([before])

    def change(_: str, count: int) -> None:
        if count == 1:  # the record has been read, the tags beside it have not
            drop([TagsItem(name_key(before), piece_key(0))])
            shelve([after])

    with watched_calls(nothing, change) as calls:
        found, _ = shelf.models()

    assert found == [after]
    assert calls[:2] == ["Query", "BatchGetItem"]


def test_hints_that_are_left_over_are_passed_over(shelf: Shelf) -> None:
    model = registered_model("cat", 500, tags={"a": "b"})
    shelve([model, registered_model("dog", 400, tags={"a": "c"})])
    key = name_key(model)
    put(
        [
            *(ChangeRow("SEARCH-CHANGES", f"{n:015d}#{model.rm_id}", target=key, exact_name="cat") for n in (1, 900)),
            TagRow(TagRow.row_of(model, key, "a").pk, f"c\x1f{model.rm_id}", target=key, exact_name="cat"),
        ]
    )

    for limit in (1, 100):
        assert names(shelf.all_models("", ["timestamp"], limit=limit)) == ["dog", "cat"]
        assert names(shelf.all_models("", ["timestamp DESC"], limit=limit)) == ["cat", "dog"]
        assert names(shelf.all_models("tags.a = 'c'", limit=limit)) == ["dog"]


def test_what_is_not_where_a_hint_says_is_looked_for_by_its_id(shelf: Shelf) -> None:
    """A rename that was refused may have had its first rows put already: they name what is another's."""
    model, other = registered_model("cat", tags={"a": "b"}), registered_model("dog")
    shelve([model, other])
    row = TagRow.row_of(model, name_key(other), "a")
    changed = ChangeRow("SEARCH-CHANGES", f"{1_000:015d}#{model.rm_id}", target="NAME#nothing", exact_name="cat")
    put([row, changed])

    assert names(shelf.all_models("tags.a = 'b'")) == ["cat"]
    assert names(shelf.all_models("", ["timestamp"])) == ["cat", "dog"]


def test_an_older_claim_that_does_not_say_where_its_holder_is_is_enough(shelf: Shelf) -> None:
    model = registered_model("cat")
    shelve([model], [version_of(model, 1)])
    put([ClaimItem(exposed_name_key("cat"), META, holder=model.rm_id)])

    assert names(shelf.all_models("name = 'cat'")) == ["cat"]
    assert numbers(shelf.all_versions("name = 'cat'")) == [("cat", 1)]


def test_what_has_gone_between_its_row_and_its_record_is_left_out(shelf: Shelf) -> None:
    models = many(3)
    shelve(models)

    def remove(operation: str, number: int) -> None:
        if number == 0:
            drop([NameItem(name_key(models[1]), META), PointerItem(registered_model_key(models[1].rm_id), "NAME")])

    with watched_calls(nothing, remove):
        found, token = shelf.models()

    assert (names(found), token) == (["model 0000", "model 0002"], None)


# What is not seen


def told_by(token: str | None) -> str:
    return base64.urlsafe_b64decode(token or "").decode()


@pytest.mark.parametrize("order_by", [["name"], ["name DESC"], ["timestamp"], ["timestamp DESC"]])
def test_a_token_tells_no_more_of_a_hidden_name_than_going_on_needs(
    shelf: Shelf, small_reads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, order_by: list[str]
) -> None:
    hidden = [registered_model(f"secret {letter} project", 100 + n) for n, letter in enumerate("abcdefghijklmnop")]
    shelve([*hidden, registered_model("a-edge", 1), registered_model("z-edge", 300)])
    small_reads(3)
    monkeypatch.setattr(ordered_rows, "MAX_QUERIES", 2)
    found, tokens, token = [], [], None

    for _ in range(100):
        page, token = shelf.models("", order_by, 10, token, Access(name_prefixes=("a-", "z-")))
        found += page
        tokens.append(told_by(token))
        if token is None:
            break

    assert sorted(names(found)) == ["a-edge", "z-edge"]
    assert len(tokens) > 3
    assert not any("project" in one for one in tokens)


def test_names_that_are_hidden_are_not_found_by_stating_them(shelf: Shelf) -> None:
    model = registered_model("cat", project_name="hidden", tags={"a": "b"})
    shelve([model], [version_of(model, 1, tags={"a": "b"})])

    for filter_ in ("name = 'hidden.cat'", "name LIKE 'hidden%'", "tags.a = 'b'", ""):
        for within in (Access(projects=(VISION,)), Access(name_prefixes=("dog",))):
            assert shelf.models(filter_, within=within) == ([], None)
            assert shelf.versions(filter_, within=within) == ([], None)


def test_who_sees_one_project_finds_by_the_name_alone(shelf: Shelf) -> None:
    model = registered_model("cat", project_name="vision")
    shelve([model, registered_model("cat")], [version_of(model, 1)])
    within = Access(projects=(VISION,))

    assert names(shelf.all_models("name = 'cat'", within=within)) == ["vision.cat"]
    assert names(shelf.all_models("name = 'vision.cat'", within=within)) == ["vision.cat"]
    assert numbers(shelf.all_versions("name IN ('cat')", within=within)) == [("cat", 1)]
    assert names(shelf.all_models("name != 'cat'", within=within)) == []
    assert names(shelf.all_models("name = 'cat'")) == ["cat"]


# Odd names and tags

ODD = [
    "a",
    "a b",
    "a!",
    "a\U0001f600",
    "A",
    "É",
    "é",
    "ß",
    "日本",
    "a'b",
    'a"b',
    "a%b",
    "a_b",
    "\U0010fffd",
    " a",
    "a ",
]


@pytest.mark.parametrize("order_by", [["name"], ["name DESC"]])
@pytest.mark.parametrize("limit", [1, 3])
def test_odd_names_are_in_the_order_of_their_characters(shelf: Shelf, order_by: list[str], limit: int) -> None:
    new_id = ulids()
    shelve([registered_model(name, rm_id=new_id()) for name in ODD])

    found = names(shelf.all_models("", order_by, limit=limit))

    assert found == sorted(ODD, reverse=order_by == ["name DESC"])


@pytest.mark.parametrize("order_by", [["name"], ["name DESC"]])
def test_names_that_are_too_long_for_a_key_are_each_found_once(shelf: Shelf, order_by: list[str]) -> None:
    new_id, project = ulids(), "\U0001f600" * 256
    models = [
        registered_model(f"{'日' * 200}{ending}", rm_id=new_id(), project_name=project)
        for ending in ["c", "a", "d", "b"]
    ]
    shelve([*models, registered_model("first"), registered_model("\U0010fffd")])

    for limit in (1, 2, 100):
        found = shelf.all_models("", order_by, limit=limit)
        assert names(found) == sorted(names(found), reverse=order_by == ["name DESC"])
        assert len(found) == 6
    assert shelf.all_models(f"name LIKE '{project}.{'日' * 200}%'", order_by, limit=1) == [
        one for one in found if one in models
    ]


@pytest.mark.parametrize(
    "value", ["", "x", "x" * 64, "x" * 65, "x" * 100_000, "\U0001f600" * 70, "a\x1fb", "\x1f", "%"]
)
def test_a_tag_is_found_by_its_value_however_long_it_is(shelf: Shelf, value: str) -> None:
    model = registered_model("cat", tags={"a": value})
    shelve([model, registered_model("dog", tags={"a": f"{value}!"})], [version_of(model, 1, tags={"a": value})])
    stated = f"tags.a = '{value[:9_000]}'"
    found = ["cat"] if len(value) < 9_000 else []

    for order_by in ([], ["timestamp"]):
        assert names(shelf.all_models(stated, order_by)) == found
    assert [one.name for one in shelf.all_versions(stated)] == found
    if value and "%" not in value:
        assert names(shelf.all_models(f"tags.a LIKE '{value[:9_000]}%'")) == ["cat", "dog"]


def test_more_tags_than_a_row_has_are_searched_in_the_record(shelf: Shelf) -> None:
    tags = {f"tag {n:04}": "v" * 60 for n in range(1_200)}
    model = registered_model("cat", tags=tags)
    shelve([model], [version_of(model, 1, tags=tags)])

    assert names(shelf.all_models(f"tags.`tag 1199` = '{'v' * 60}'")) == ["cat"]
    assert names(shelf.all_models(f"tags.`tag 1199` = '{'v' * 60}'", within=Access(name_prefixes=("c",)))) == ["cat"]
    assert numbers(shelf.all_versions(f"tags.`tag 1199` = '{'v' * 60}'")) == [("cat", 1)]
    assert names(shelf.all_models("tags.`tag 1199` = 'x'")) == []


@pytest.mark.parametrize(
    "clause", ["tags.a = 'b'", "name LIKE 'a%b'", "source_path = 'm'", "version_number >= 1", "run_id LIKE 'r%s'"]
)
def test_an_expression_is_no_longer_than_dynamodb_takes(clause: str) -> None:
    """It takes 4 KB, 300 operators and 100 values of a list; the stores in memory take anything."""
    within = Access(name_prefixes=tuple(map(str, range(MAX_NAME_PREFIXES))))
    text = " AND ".join([clause] * MAX_CLAUSES)
    of_versions = Query(clauses=parse_filter(text, VERSIONS), order=NEWEST_FIRST, limit=1)
    conditions = [versions_like(of_versions, within, is_without_prompts=True)]
    if clause[:4] in ("name", "tags"):
        of_models = Query(clauses=parse_filter(text, MODELS), order=MODEL_ORDERS.last, limit=1)
        conditions.append(models_like(of_models, within))

    for condition in conditions:
        assert condition is not None
        expression = condition.serialize({}, {})
        assert len(expression) < 4_096
        assert len(re.findall(r"AND|OR|NOT|contains|begins_with|exists|[<=>]+", expression)) <= 300


def test_a_list_of_more_values_than_dynamodb_takes_is_left_to_the_records() -> None:
    filter_ = f"run_id IN ({', '.join(repr(str(n)) for n in range(101))})"
    query = Query(clauses=parse_filter(filter_, VERSIONS), order=NEWEST_FIRST, limit=1)

    assert versions_like(query, EVERYWHERE, is_without_prompts=False) is None


def test_fifty_clauses_are_searched_by(shelf: Shelf) -> None:
    model = registered_model("cat", tags={"a": "b"})
    shelve([model], [version_of(model, 1, tags={"a": "b"})])
    filter_ = " AND ".join(["tags.a = 'b'", "name LIKE '%a%'"] * 25)

    assert names(shelf.all_models(filter_, ["name"], within=Access(name_prefixes=("b", "c")))) == ["cat"]
    assert numbers(shelf.all_versions(filter_)) == [("cat", 1)]
    assert numbers(shelf.all_versions(filter_.replace("%a%", "%b%", 1))) == []


def test_versions_that_mlflow_has_not_made_are_found_by_the_source_that_is_told(shelf: Shelf) -> None:
    model = registered_model("cat")
    own, other = version_of(model, 1), version_of(model, 2)
    own = own.model_copy(update={"lineage": None, "artifact": own.artifact.model_copy(update={"uri": "s3://mine"})})
    shelve([model], [own, other])

    assert numbers(shelf.all_versions("source_path = 's3://elsewhere/2'")) == [("cat", 2)]
    assert numbers(shelf.all_versions("source_path LIKE '%'")) == [("cat", 2), ("cat", 1)]
    assert numbers(shelf.all_versions("run_id = ''")) == [("cat", 2)]
