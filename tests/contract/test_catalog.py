"""What every Catalog does: the one in memory, on moto, and on the running emulator."""

from collections.abc import Callable

import pytest

from chalicelib.registry.audit import Action, verify_chain
from chalicelib.registry.errors import Conflict, NotFound, StaleRevision
from chalicelib.registry.models import Changes, File, Filters, ModelVersion
from chalicelib.registry.ports import Catalog
from tests.conftest import ALICE, BOB, Clock, draft

Publish = Callable[..., ModelVersion]


@pytest.fixture
def publish(catalog: Catalog, clock: Clock, unique: str) -> Publish:
    """Store a version of a draft as the service does; names and ids are the test's own."""

    def publish(name: str = "cat", version: str = "v1", **fields: object) -> ModelVersion:
        stated = draft(f"{unique}-{name}", version, **fields)
        now = clock()
        placement = catalog.place(stated, now)
        stored = ModelVersion(
            **dict(stated),
            rm_id=placement.rm_id,
            number=placement.number,
            revision=placement.head.seq + 1,
            published_at=now,
            updated_at=now,
            artifact=File(
                key=f"artifacts/{stated.id}/m.zip",
                file_name="m.zip",
                media_type="application/zip",
                size=1,
                sha256="0" * 64,
                sha256_checked_by="registry",
            ),
        )
        return catalog.add(stored, placement, ALICE)

    return publish


def change(
    catalog: Catalog, clock: Clock, stored: ModelVersion, /, if_revision: int | None = None, **fields: object
) -> ModelVersion:
    at = clock()
    changes = Changes.model_validate(fields)
    return catalog.change(stored.id, lambda now: now.edited(changes, at), BOB, at, if_revision)[1]


def test_what_was_stored_is_read_back(catalog: Catalog, publish: Publish) -> None:
    version = publish(
        score=0.1,
        labels=("ä", {"name": "b"}),
        overview={"deep": [1, 1.5, None, {"x": True}]},
        tags={"a": "1", "b": ""},
        description="line\nline",
    )

    assert catalog.version(version.id) == version


def test_an_unknown_id_is_not_found(catalog: Catalog, unique: str) -> None:
    with pytest.raises(NotFound):
        catalog.version(f"unknown-{unique}-00000")
    with pytest.raises(NotFound):
        catalog.events(f"MODEL#unknown-{unique}-00000")


def test_versions_of_a_name_count_from_one(publish: Publish) -> None:
    first, second = publish(version="v1"), publish(version="v2")

    assert (first.number, second.number) == (1, 2)
    assert first.rm_id == second.rm_id


def test_a_number_is_not_used_again_after_a_deletion(catalog: Catalog, publish: Publish, clock: Clock) -> None:
    last = publish(version="v1")
    catalog.remove(last.id, ALICE, clock())

    assert publish(version="v2").number == 2


def test_the_same_name_in_another_project_is_another_registered_model(publish: Publish) -> None:
    here, there = publish(), publish(id="a-model-over-there", project_id="p")

    assert here.rm_id != there.rm_id
    assert there.number == 1


@pytest.mark.parametrize("precision", [("fp32",), ("fp16", "int8")])
def test_a_name_version_and_precision_is_claimed_once(
    publish: Publish, precision: tuple[str, ...], unique: str
) -> None:
    holder = publish(precision=precision)

    with pytest.raises(Conflict) as caught:
        publish(precision=precision, id=f"another-{unique}-0000")

    assert caught.value.holder == holder.id
    assert publish(precision=("bf16",), id=f"another-{unique}-0000").number == 2


def test_an_id_is_taken_until_its_model_is_deleted(catalog: Catalog, publish: Publish, clock: Clock) -> None:
    version = publish()

    with pytest.raises(Conflict) as caught:
        publish("dog", id=version.id)
    assert caught.value.holder == version.id
    catalog.remove(version.id, BOB, clock())
    again = publish("dog", id=version.id)

    assert again.revision == 3
    assert catalog.version(version.id) == again


def test_a_change_is_stored_with_its_revision(catalog: Catalog, publish: Publish, clock: Clock) -> None:
    version = publish()

    after = change(catalog, clock, version, score=0.0, category=None, description="new")

    assert after.revision == 2
    assert after.score == 0.0
    assert catalog.version(version.id) == after


def test_a_change_that_changes_nothing_is_not_stored(catalog: Catalog, publish: Publish, clock: Clock) -> None:
    version = publish(score=0.5)

    assert change(catalog, clock, version, score=0.5) == version
    assert len(catalog.events(f"MODEL#{version.id}")[0]) == 1


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), (0, False), (0.0, -0.0)])
def test_a_change_that_only_python_would_not_notice_is_stored(
    catalog: Catalog, publish: Publish, clock: Clock, old: object, new: object
) -> None:
    version = publish(overview={"a": old})

    after = change(catalog, clock, version, overview={"a": new})

    assert after.revision == 2
    assert repr(catalog.version(version.id).overview) == repr({"a": new})
    assert "overview" in catalog.events(f"MODEL#{version.id}")[0][-1].changes


def test_time_does_not_go_backwards_for_a_version(catalog: Catalog, publish: Publish, clock: Clock) -> None:
    """Another function's clock may be behind."""
    version = publish()
    past = Clock()

    after = change(catalog, past, version, score=0.5)
    catalog.remove(version.id, ALICE, past())

    assert after.updated_at == version.updated_at
    times = [event.at for event in catalog.events(f"MODEL#{version.id}")[0]]
    assert times == sorted(times)


def test_a_change_with_a_stale_revision_is_refused(catalog: Catalog, publish: Publish, clock: Clock) -> None:
    version = publish()
    current = change(catalog, clock, version, if_revision=1, score=0.1)

    with pytest.raises(StaleRevision) as caught:
        change(catalog, clock, version, if_revision=1, score=0.2)

    assert caught.value.current == 2
    assert catalog.version(version.id) == current


def test_a_new_name_moves_a_version_to_another_registered_model(
    catalog: Catalog, publish: Publish, clock: Clock, unique: str
) -> None:
    cat, dog = publish("cat"), publish("dog")

    moved = change(catalog, clock, cat, name=f"{unique}-dog", version="v2")

    assert (moved.rm_id, moved.number) == (dog.rm_id, 2)
    assert publish("cat", "v1", id=f"a-new-cat-{unique}").number == 2


def test_a_change_into_a_taken_claim_is_refused(catalog: Catalog, publish: Publish, clock: Clock) -> None:
    holder, version = publish(version="v1"), publish(version="v2")

    with pytest.raises(Conflict) as caught:
        change(catalog, clock, version, version="v1")

    assert caught.value.holder == holder.id
    assert catalog.version(version.id) == version


def test_a_deleted_version_is_gone_and_its_claim_is_free(catalog: Catalog, publish: Publish, clock: Clock) -> None:
    version = publish()

    assert catalog.remove(version.id, BOB, clock()) == (version, version.file.key)

    for again in (lambda: catalog.version(version.id), lambda: catalog.remove(version.id, BOB, clock())):
        with pytest.raises(NotFound):
            again()
    assert publish(id=version.id + "-two").number == 2


def test_every_change_has_its_event_in_a_whole_chain(catalog: Catalog, publish: Publish, clock: Clock) -> None:
    version = publish()
    change(catalog, clock, version, score=0.5)
    catalog.remove(version.id, BOB, clock())
    publish(id=version.id)

    events, head = catalog.events(f"MODEL#{version.id}")
    verify_chain(events, head)
    assert [(event.action, event.actor) for event in events] == [
        (Action.VERSION_REGISTERED, ALICE),
        (Action.VERSION_UPDATED, BOB),
        (Action.VERSION_DELETED, BOB),
        (Action.VERSION_REGISTERED, ALICE),
    ]
    verify_chain(*catalog.events(f"RM#{version.rm_id}"))


def test_who_began_the_life_of_an_id_is_known_until_it_ends(catalog: Catalog, publish: Publish, clock: Clock) -> None:
    version = publish()
    change(catalog, clock, version, score=0.5)
    change(catalog, clock, version, score=0.6)

    alive = catalog.begun_by(version.id)
    catalog.remove(version.id, BOB, clock())
    ended = catalog.begun_by(version.id)
    publish(id=version.id)

    assert (alive, ended, catalog.begun_by(version.id)) == (ALICE, None, ALICE)
    assert catalog.begun_by(version.id + "-unknown") is None


def test_a_search_gives_the_newest_first_in_pages(catalog: Catalog, publish: Publish, unique: str) -> None:
    versions = [publish(version=f"v{number}", id=f"{unique}-model-{number:06}") for number in range(7)]
    filters = Filters(name=unique)

    first = catalog.search(filters, 3)
    second = catalog.search(filters, 3, first.after)
    third = catalog.search(filters, 3, second.after)

    assert [*first.versions, *second.versions, *third.versions] == versions[::-1]
    assert third.after is None


@pytest.mark.parametrize(
    ("stated", "asked", "is_found"),
    [
        ({"name": "Straße"}, {"name": "STRASSE"}, True),
        ({"name": "100%_sure"}, {"name": "%_"}, True),
        ({"name": "100"}, {"name": "%"}, False),
        ({"name": "o'<b>"}, {"name": "'<"}, True),
        ({"version": "v1.0"}, {"version": "v1.0"}, True),
        ({"version": "v1.0"}, {"version": "V1.0"}, False),
        ({"version": "v1.0"}, {"version": "v1"}, False),
        ({"project_name": "Bottle Caps"}, {"project_name": "caps"}, True),
        ({"category": "Detection"}, {"category": "detect"}, True),
        ({"category": None}, {"category": "d"}, False),
        ({"architecture": "YOLOX-S"}, {"architecture": "yolox"}, True),
        ({"precision": ("fp16", "int8")}, {"precision": "P16"}, True),
        ({"precision": ("fp16", "int8")}, {"precision": "int"}, True),
        ({"precision": ("fp16", "int8")}, {"precision": "fp32"}, False),
        ({"precision": ("fp16",)}, {"precision": "fp64"}, False),
        ({"origin": "Geti"}, {"origin": "geti"}, True),
        ({"origin": "Geti"}, {"origin": "get"}, False),
        ({"format": "OpenVINO"}, {"format": "openvino"}, True),
        ({"tags": {"team": "Edge"}}, {"tags": {"team": "Edge"}}, True),
        ({"tags": {"team": "Edge"}}, {"tags": {"team": "edge"}}, False),
        ({"tags": {"team": "Edge"}}, {"tags": {"tea": "m\x1fEdge"}}, False),
        ({"category": "a", "architecture": "b"}, {"category": "a", "architecture": "b"}, True),
        ({"category": "a", "architecture": "b"}, {"category": "a", "architecture": "c"}, False),
    ],
)
def test_filters_are_literal_and_all_must_hold(
    catalog: Catalog, publish: Publish, unique: str, stated: dict, asked: dict, is_found: bool
) -> None:
    fields = {"origin": unique} | stated if "origin" not in stated else stated
    version = publish(**fields, id=f"{unique}-sought-model")
    bound = {} if "origin" in asked or "name" in asked else {"name": unique}

    found = catalog.search(Filters(**(bound | asked)), 1000).versions

    assert (version in found) == is_found


def test_what_is_elsewhere_is_found_by_who_asks_for_that(catalog: Catalog, publish: Publish, unique: str) -> None:
    publish(tags={"of": unique})

    here = catalog.search(Filters(tags={"of": unique}), 10)
    elsewhere = catalog.search(Filters(tags={"of": unique}, artifact="external"), 10)

    assert len(here.versions) == 1
    assert elsewhere.versions == ()
