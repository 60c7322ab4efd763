"""What a limited caller reads of lists, and in how many steps."""

from collections.abc import Iterator

import boto3
import pytest

from chalicelib.registry.access import Access, Actor, Project, Role
from chalicelib.registry.errors import Conflict, Forbidden, NotFound, StaleRevision
from chalicelib.registry.granting import Granting
from chalicelib.registry.models import Changes, Filters
from chalicelib.registry.registered_models import RegisteredModel, RegisteredModelChanges
from chalicelib.registry.uploads import StatedFile, Upload
from chalicelib.store import listing
from tests.conftest import ALICE, draft, parcel
from tests.store.conftest import Bench
from tests.store.faults import nothing, watched_calls

EDGE = Access(role=Role.PUBLISHER, name_prefixes=("edge-", "rim-"))
VISION = Access(role=Role.PUBLISHER, projects=(Project(name="vision"),))
LIMITED = Actor(access=EDGE)


def listed(bench: Bench, within: Access, limit: int = 2) -> Iterator[RegisteredModel]:
    after = None
    for _ in range(500):
        page, after = bench.catalog.registered_models.page(limit, after, within)
        yield from (model for _, model in page)
        if after is None:
            return
    raise AssertionError("a list without end")


def test_names_limit_what_is_found_and_listed(bench: Bench) -> None:
    for name in ("edge-cat", "rim-dog", "cat", "Edge-cat", "my-edge-cat"):
        bench.register(name)

    assert {version.name for version in bench.catalog.search(Filters(), 10, None, EDGE).versions} == {
        "edge-cat",
        "rim-dog",
    }
    assert [model.name for model in listed(bench, EDGE)] == ["edge-cat", "rim-dog"]
    with pytest.raises(NotFound):
        bench.registry.registered_model("cat", LIMITED)


def test_projects_are_listed_together_in_order(bench: Bench) -> None:
    for number, project in enumerate(["audio", "vision", "vision", "hidden", None]):
        bench.register(f"name{number}", project_name=project)
    both = Access(projects=(Project(name="vision"), Project(name="audio")))

    assert [model.exposed_name for model in listed(bench, both, 1)] == ["audio.name0", "vision.name1", "vision.name2"]


def test_a_name_comes_before_those_that_it_begins(bench: Bench) -> None:
    names = ["cat", "cat 2", "cat!", "cat-2", "cat.2", "cats"]
    for name in reversed(names):
        bench.register(name, id=f"model-number-{names.index(name):04}")

    assert [model.name for model in listed(bench, Access())] == names


def test_a_list_of_what_is_seen_does_not_read_all_there_is(bench: Bench) -> None:
    def calls(models: int) -> int:
        for number in range(models):
            bench.register(f"cat{number:03}-{models}")
        with watched_calls(nothing, nothing) as made:
            assert bench.catalog.registered_models.page(1, None, EDGE) == ([], None)
        return len(made)

    assert calls(10) == calls(40)


def test_a_list_that_is_too_long_to_read_at_once_goes_on_and_names_nothing_hidden(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("atlas-1-hidden", "atlas-2-hidden", "edge-cat", "falcon-hidden", "rim-dog", "zebra-1-hidden"):
        bench.register(name)
    # As if a megabyte held two rows, and a request might read one.
    read = listing.ListedItem._get_connection().query
    connection = type(listing.ListedItem._get_connection())
    monkeypatch.setattr(listing, "MAX_QUERIES", 1)
    monkeypatch.setattr(connection, "query", lambda _, *args, **options: read(*args, **options | {"limit": 2}))
    positions: list[str] = []

    after, found = None, []
    while True:
        page, after = bench.catalog.registered_models.page(10, after, EDGE)
        found += [model.name for _, model in page]
        if after is None:
            break
        positions.append(after)

    assert found == ["edge-cat", "rim-dog"]
    assert not any("hidden" in position for position in positions)


def test_a_list_that_goes_on_repeats_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hidden may begin as what is seen does: to tell little of it is not to go back behind that."""
    names = ["edge-cameras-1", "edge-cameras-2"]
    for name in (*names, "edge-cameras-3"):
        bench.register(name)
    read = listing.ListedItem._get_connection().query
    connection = type(listing.ListedItem._get_connection())
    monkeypatch.setattr(listing, "MAX_QUERIES", 1)
    monkeypatch.setattr(connection, "query", lambda _, *args, **options: read(*args, **options | {"limit": 3}))
    bench.register("z")

    assert [model.name for model in listed(bench, Access(name_prefixes=tuple(names)), 10)] == names


def test_a_limited_publisher_renames_nothing_out_of_its_names(bench: Bench) -> None:
    version = bench.register("edge-cat")

    with pytest.raises(Forbidden, match='a name that begins with "edge-" or "rim-"'):
        bench.registry.update(version.id, Changes(name="cat"), LIMITED)

    assert bench.catalog.version(version.id) == version


def test_a_precondition_tells_nothing_of_what_is_hidden(bench: Bench) -> None:
    version = bench.register("cat")

    with pytest.raises(NotFound):
        bench.registry.update(version.id, Changes(score=1.0), LIMITED, if_revision=99)
    with pytest.raises(NotFound):
        bench.registry.change_registered_model("cat", RegisteredModelChanges(description="x"), LIMITED, if_revision=99)
    with pytest.raises(StaleRevision):
        bench.registry.update(version.id, Changes(score=1.0), ALICE, if_revision=99)


def test_a_completion_that_is_repeated_does_not_answer_a_model_that_moved_away(bench: Bench) -> None:
    upload = bench.open(project_name="vision")
    bench.put(upload)
    version = bench.complete(upload)
    bench.registry.update(version.id, Changes(project_name="hidden"), ALICE)

    with pytest.raises(NotFound):
        bench.uploading.complete(upload.id, [], None, Actor(access=VISION))


class Intruder:
    """Opens an upload in a hidden project just before somebody else's registration is written."""

    def __init__(self, bench: Bench, model_id: str) -> None:
        self.upload: Upload | None = None
        self._bench, self._model_id = bench, model_id

    def __call__(self, operation: str, _: int) -> None:
        if operation == "TransactWriteItems" and self.upload is None:
            self.upload = Upload.model_construct()  # once, for opening it is a transaction too
            self.upload = self._bench.open("dog", id=self._model_id, project_name="hidden")


@pytest.mark.parametrize("way", ["register", "open"])
def test_a_lost_race_for_an_id_does_not_name_the_hidden_upload_that_won(bench: Bench, way: str) -> None:
    stated = draft("cat", project_name="vision")
    intruder = Intruder(bench, stated.id)
    limited = Actor(access=VISION)

    file = StatedFile(file_name="m.zip", size=9, sha256="0" * 64)
    ways = {
        "register": lambda: bench.registry.register(stated, parcel(), limited),
        "open": lambda: bench.uploading.open(stated, file, limited),
    }

    with watched_calls(intruder, nothing), pytest.raises(Conflict) as caught:
        ways[way]()

    assert intruder.upload
    assert caught.value.holder == stated.id
    assert caught.value.upload_id is None


def test_a_token_row_without_its_token_does_not_end_the_list(bench: Bench) -> None:
    granting = Granting(bench.catalog, bench.clock, bench.catalog._new_ulid, bench.announced)
    made = [granting.create(f"token {number}", Access(), None, ALICE)[0] for number in range(4)]
    key = {"pk": {"S": f"TOKEN#{made[0].id}"}, "sk": {"S": "META"}}
    boto3.client("dynamodb").delete_item(TableName="RegistryTable", Key=key)

    first, after = bench.catalog.tokens.page(2)
    rest, end = bench.catalog.tokens.page(2, after)

    assert [kept.token for kept in [*first, *rest]] == made[1:]
    assert end is None
