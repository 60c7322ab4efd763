"""A worker killed at each of its steps, and its message delivered again: in the end there is what an undisturbed worker
leaves, and nothing twice."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.geti.errors import GetiBusy, GetiGone
from chalicelib.geti.states import ItemState, Order
from tests.geti_importing import M1, ImportStage
from tests.geti_stage import PACKAGE

STEPS = 30  # more than there are
PORTS = ("geti", "store", "imports", "work", "catalog", "blobs")


class Killed(BaseException):
    """The process is gone."""


class Fate:
    """Counts calls; with one of them, done or not, all ends."""

    def __init__(self, at: int, is_done: bool) -> None:
        self._left, self._is_done = at, is_done
        self.is_dead = False

    def of(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def mortal(*args: Any, **named: Any) -> Any:
            if self.is_dead:
                raise Killed
            self._left -= 1
            if self._left:
                return call(*args, **named)
            self.is_dead = True
            if self._is_done:
                call(*args, **named)
            raise Killed

        return mortal


class Mortal:
    """A port whose callers may die with a call."""

    def __init__(self, port: Any, fate: Fate) -> None:
        self._port, self._fate = port, fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._fate.of(found) if callable(found) else found


def killed(stage: ImportStage, order: Order, fate: Fate) -> bool:
    """Whether it died before it was done."""
    ports = {name: getattr(stage, name) for name in PORTS}
    for name, port in ports.items():
        setattr(stage, name, Mortal(port, fate))
    try:
        stage.run(order)
    except Killed:
        pass
    finally:
        for name, port in ports.items():
            setattr(stage, name, port)
        stage.geti.open_packages = 0
    return fate.is_dead


def end_of(stage: ImportStage, order: Order) -> Any:
    """What there is in the end, but for times and what is swept. The log may lose what the events have."""
    item = stage.item()
    models = {one: (version.name, version.number, version.tags) for one, version in stage.versions.items()}
    runs = [(run.outcome, run.counts.imported, run.counts.failed) for run in stage.store.finished]
    outcome = stage.outcome(order) if order.import_id else None
    return item.model_copy(update={"due_at": None}), models, runs, outcome


def going_well(stage: ImportStage) -> None:
    pass


def broken_off(stage: ImportStage) -> None:
    """Once; the next time it comes."""
    first = iter([[PACKAGE[:300], GetiBusy("It broke off.")]])

    def chunks() -> Any:
        for part in next(first, [PACKAGE]):
            if isinstance(part, Exception):
                raise part
            yield part

    stage.geti.sends[M1] = chunks


def gone(stage: ImportStage) -> None:
    stage.geti.failures["package", M1] = GetiGone("It is gone.", "model_not_found")


def hostile(stage: ImportStage) -> None:
    stage.geti.sends[M1] = b"no archive"


@pytest.mark.parametrize("is_asked", [False, True], ids=["sync", "request"])
@pytest.mark.parametrize("strips", [False, True], ids=["as it is", "repacked"])
@pytest.mark.parametrize("course", [going_well, broken_off, gone, hostile], ids=lambda course: course.__name__)
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_message_that_is_delivered_again_ends_as_if_nothing_had_happened(
    is_asked: bool, strips: bool, course: Callable[[ImportStage], None], is_done: bool
) -> None:
    def prepared() -> tuple[ImportStage, Order]:
        stage = ImportStage(strips_sample_image=strips, slots=1)
        course(stage)
        return stage, stage.asked(M1) if is_asked else stage.synced(M1)

    undisturbed, order = prepared()
    undisturbed.run(order)
    undisturbed.work_off()
    expected = end_of(undisturbed, order)
    named = {version.artifact.key for version in undisturbed.versions.values()}
    assert undisturbed.blobs.objects.keys() == named

    for step in range(1, STEPS):
        stage, order = prepared()
        has_died = killed(stage, order, Fate(step, is_done))
        stage.pass_by(minutes=90)  # until SQS delivers it again; what the dead one held is free by then
        stage.run(order)
        stage.work_off()

        assert end_of(stage, order) == expected
        assert stage.is_idle
        named = {version.artifact.key for version in stage.versions.values()}
        assert named <= stage.blobs.objects.keys()
        # What no record names is swept, since it is marked with the model.
        assert all(stage.blobs.owners[key] == M1 for key in stage.blobs.objects)
        if not has_died:
            return
    pytest.fail("There are more steps than were tried.")


def test_a_dead_worker_leaves_two_objects_at_most_that_nothing_names() -> None:
    for step in range(1, STEPS):
        stage = ImportStage(strips_sample_image=True)
        order = stage.synced(M1)

        killed(stage, order, Fate(step, is_done=True))
        stage.pass_by(minutes=90)
        stage.run(order)
        stage.work_off()

        assert stage.item().state == ItemState.IMPORTED
        # The package as it came, and what was made of it.
        assert len(stage.blobs.objects.keys() - {stage.version().artifact.key}) <= 2
