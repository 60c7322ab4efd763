"""The store against the model in memory: whatever is done, both say the same and the stored state stays whole."""

from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from moto import mock_aws

from chalicelib.registry.errors import RegistryError
from chalicelib.registry.models import Changes, Filters, ModelVersion
from chalicelib.registry.service import Registry
from chalicelib.store.blobs import S3Blobs
from chalicelib.store.catalog import DynamoCatalog
from tests.conftest import ALICE, Clock, create_stores, draft, parcel, ulids
from tests.invariants import check_invariants
from tests.memory import MemoryBlobs, MemoryCatalog

IDS = st.sampled_from(["model-number-one", "model-number-two", "model-number-three"])
NAMES = st.sampled_from(["cat", "dog"])
VERSIONS = st.sampled_from(["v1", "v2"])
PROJECTS = st.sampled_from([None, "p1"])
PRECISIONS = st.sampled_from([("fp32",), ("fp16", "int8")])


class StoreBesideMemory(RuleBasedStateMachine):
    """Each step is done twice, on DynamoDB and S3 in moto and in memory, with equal clocks."""

    def __init__(self) -> None:
        super().__init__()
        self._aws = mock_aws()
        self._aws.start()
        create_stores()
        s3 = boto3.client("s3")
        self._stored = _registry(
            DynamoCatalog("RegistryTable", "EventsTable", ulids()),
            S3Blobs("artifacts", lambda: s3, lambda: s3, 60, lambda *_: None),
        )
        self._memory = _registry(MemoryCatalog(ulids()), MemoryBlobs())
        self._ids: set[str] = set()

    def teardown(self) -> None:
        self._aws.stop()

    @rule(id_=IDS, name=NAMES, version=VERSIONS, project=PROJECTS, precision=PRECISIONS)
    def register(self, id_: str, name: str, version: str, project: str | None, precision: tuple[str, ...]) -> None:
        def register(registry: Registry) -> Any:
            stated = draft(name, version, id=id_, project_id=project, precision=precision)
            return registry.register(stated, parcel(), ALICE)

        if not isinstance(self._both(register), RegistryError):
            self._ids.add(id_)

    @rule(id_=IDS, score=st.sampled_from([None, 0.0, 0.5]))
    def update(self, id_: str, score: float | None) -> None:
        self._both(lambda registry: registry.update(id_, Changes(score=score), ALICE))

    @rule(id_=IDS, version=VERSIONS, precision=PRECISIONS)
    def relabel(self, id_: str, version: str, precision: tuple[str, ...]) -> None:
        self._both(lambda registry: registry.update(id_, Changes(version=version, precision=precision), ALICE))

    @rule(id_=IDS, name=NAMES)
    def rename(self, id_: str, name: str) -> None:
        self._both(lambda registry: registry.update(id_, Changes(name=name), ALICE))

    @rule(id_=IDS, project=PROJECTS, revision=st.sampled_from([None, 1, 2]))
    def move(self, id_: str, project: str | None, revision: int | None) -> None:
        self._both(lambda registry: registry.update(id_, Changes(project_id=project), ALICE, revision))

    @precondition(lambda self: self._ids)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self._ids)))
        self._both(lambda registry: registry.delete(id_, ALICE))
        self._ids.discard(id_)

    @invariant()
    def stored_state_is_whole(self) -> None:
        stored = check_invariants()
        listed = self._stored.catalog.search(Filters(), 100).versions
        assert {version.id for version in stored} == {version.id for version in listed}
        assert [_seen(v) for v in listed] == [_seen(v) for v in self._memory.catalog.search(Filters(), 100).versions]

    def _both(self, step: Any) -> Any:
        """The outcome of a step on the store, which must be the one in memory."""
        stored, remembered = _outcome(step, self._stored), _outcome(step, self._memory)
        assert _seen(stored) == _seen(remembered)
        return stored


def _registry(catalog: Any, blobs: Any) -> Registry:
    return Registry(catalog, blobs, Clock(), ulids(), lambda *_: None)


def _outcome(step: Any, registry: Registry) -> Any:
    try:
        return step(registry)
    except RegistryError as exc:
        return exc


def _seen(outcome: ModelVersion | RegistryError) -> Any:
    """What a caller sees of it; ids that the registry makes may differ."""
    if isinstance(outcome, RegistryError):
        return (outcome.code, str(outcome))
    return outcome.model_dump(exclude={"rm_id", "artifact"})


@pytest.mark.usefixtures("credentials")
class TestStoreBesideMemory(StoreBesideMemory.TestCase):
    settings = settings(
        max_examples=12,
        stateful_step_count=20,
        phases=(Phase.generate,),  # a failing run is short enough to read as it is
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
