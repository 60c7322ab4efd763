"""Random histories of uploads among registrations, changes, aliases and sweeps: after each step the state is whole."""

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from moto import mock_aws

from chalicelib.registry.errors import RegistryError
from chalicelib.registry.models import Changes, Filters
from chalicelib.registry.registered_models import RegisteredModelChanges
from chalicelib.registry.uploads import Upload, UploadState
from tests.conftest import ALICE, create_stores
from tests.store.conftest import Bench

IDS = st.sampled_from(["model-number-one", "model-number-two", "model-number-three"])
NAMES = st.sampled_from(["cat", "dog"])
VERSIONS = st.sampled_from(["v1", "v2"])
ORPHAN_AGE_AND_MORE = timedelta(days=3)


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._aws = mock_aws()
        self._aws.start()
        create_stores()
        self._bench = Bench()
        self._uploads: list[Upload] = []

    def teardown(self) -> None:
        # Whatever happened: when all uploads have expired, nothing is left but what records name.
        self._bench.clock.pass_by(days=8)
        self._bench.blobs.written_at = self._bench.clock.now - ORPHAN_AGE_AND_MORE
        while not self._bench.sweep().is_finished:
            pass
        versions = self._bench.check()
        assert set(self._bench.blobs.objects) == {version.artifact.key for version in versions}
        self._aws.stop()

    @rule(id_=IDS, name=NAMES, version=VERSIONS)
    def open(self, id_: str, name: str, version: str) -> None:
        with suppress(RegistryError):
            self._uploads.append(self._bench.open(name, version, id=id_))

    @precondition(lambda self: self._uploads)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        self._bench.put(data.draw(st.sampled_from(self._uploads)))

    @precondition(lambda self: self._uploads)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        upload = data.draw(st.sampled_from(self._uploads))
        with suppress(RegistryError):
            version = self._bench.complete(upload)
            assert version.artifact.key == upload.key
            assert self._bench.catalog.uploads.get(upload.id).state == UploadState.COMPLETED

    @precondition(lambda self: self._uploads)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        with suppress(RegistryError):
            self._bench.uploading.abort(data.draw(st.sampled_from(self._uploads)).id, ALICE)

    @rule(id_=IDS, name=NAMES, version=VERSIONS)
    def register(self, id_: str, name: str, version: str) -> None:
        with suppress(RegistryError):
            self._bench.register(name, version, id=id_)

    @rule(id_=IDS, name=NAMES, version=VERSIONS)
    def change(self, id_: str, name: str, version: str) -> None:
        with suppress(RegistryError):
            self._bench.registry.update(id_, Changes(name=name, version=version), ALICE)

    @rule(id_=IDS)
    def delete(self, id_: str) -> None:
        with suppress(RegistryError):
            self._bench.registry.delete(id_, ALICE)

    @rule(name=NAMES, alias=st.sampled_from(["champion", "old"]), number=st.sampled_from([None, 1, 2, 3]))
    def set_alias(self, name: str, alias: str, number: int | None) -> None:
        with suppress(RegistryError):
            self._bench.registry.change_registered_model(name, RegisteredModelChanges(aliases={alias: number}), ALICE)

    @rule(hours=st.sampled_from([1, 13, 25]))
    def time_passes(self, hours: int) -> None:
        self._bench.clock.pass_by(hours=hours)

    @rule()
    def sweep(self) -> None:
        self._bench.sweep()

    @invariant()
    def stored_state_is_whole(self) -> None:
        versions = self._bench.check(orphans=100)
        listed = self._bench.catalog.search(Filters(), 100).versions
        assert {version.id for version in versions} == {version.id for version in listed}


@pytest.mark.usefixtures("credentials")
class TestHistories(Histories.TestCase):
    settings = settings(
        max_examples=6,
        stateful_step_count=25,
        phases=(Phase.generate,),  # a failing run is short enough to read as it is
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
