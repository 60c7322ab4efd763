"""The sync killed at each of its steps and run again: what is there in the end is what an undisturbed run leaves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.geti_sync import SyncStage
from tests.simulators.geti import GetiServer, World

STEPS = 60  # more than there are


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """Calls of a port, counted together with those of others; one of them is the last thing that happens."""

    def __init__(self, target: Any, countdown: "Countdown") -> None:
        self._target, self._countdown = target, countdown

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return self._countdown.around(found) if callable(found) else found


class Countdown:
    def __init__(self, at: int | None, is_done_before: bool) -> None:
        self.left, self.is_done_before, self.is_over = at, is_done_before, False

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            if self.left is None or self.is_over:
                return call(*args, **named)
            self.left -= 1
            if self.left:
                return call(*args, **named)
            self.is_over = True
            if self.is_done_before:
                call(*args, **named)
            raise Killed

        return counted


class MortalStage(SyncStage):
    countdown = Countdown(None, is_done_before=False)

    @property
    def syncing(self) -> Any:
        syncing: Any = super().syncing
        for port in ("_store", "_work", "_server"):
            setattr(syncing, port, Mortal(getattr(syncing, port), self.countdown))
        return syncing


@contextmanager
def prepared() -> Iterator[MortalStage]:
    """Before a run that has something to do: a model is gone, one waits for its next try, two are new."""
    world = World()
    caps, screws, nails = (world.project(name).group() for name in ("Caps", "Screws", "Nails"))
    for group in (caps, screws, nails):
        group.train(optimized=["FP16", "ONNX FP32"])
    with GetiServer(world) as geti:
        stage = MortalStage(geti)
        stage.run()
        stage.work_off(fails={caps.models[0]["FP16"].id: "Geti was busy."})
        nails.project.delete()
        stage.pass_by(minutes=15)
        stage.run()
        screws.train(optimized=["FP16", "FP32"])
        stage.pass_by(minutes=60)
        yield stage


def left_behind(stage: SyncStage) -> Any:
    items = {item.model_id: (item.state, item.attempts, item.origin_state) for item in stage.store.kept.values()}
    marks = {key: version.tags.get("geti.origin_state") for key, version in stage.registered.items()}
    return items, marks, dict(stage.store.projects())


@pytest.mark.parametrize("is_done_before", [False, True], ids=["before", "after"])
def test_whichever_step_is_the_last_the_next_run_comes_to_the_same(is_done_before: bool) -> None:
    with prepared() as stage:
        stage.run()
        stage.work_off()
        undisturbed = left_behind(stage)

    for step in range(1, STEPS):
        with prepared() as stage:
            stage.countdown = countdown = Countdown(step, is_done_before)
            with suppress(Killed):
                stage.run()
            stage.countdown = Countdown(None, is_done_before)
            stage.work_off()
            stage.pass_by(minutes=21)
            stage.run()
            stage.work_off()

            assert left_behind(stage) == undisturbed, f"step {step}"
            assert stage.syncing.status().run.finished_at, f"step {step}"
        if not countdown.is_over:
            break

    assert 15 < step < STEPS - 1
    assert sorted(undisturbed[1].values(), key=str) == [None, None, None, None, "deleted"]
