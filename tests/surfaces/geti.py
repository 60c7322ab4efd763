"""The service with a Geti server behind it, and in place of the functions that import and sync, their outcomes."""

from itertools import count

import pytest

from chalicelib import wiring_geti
from chalicelib.geti.states import ImportedModel, Order
from chalicelib.surfaces import projects
from tests.geti_memory import WorkInMemory
from tests.geti_server import GetiServer, group, openvino, trained

GETI_TOKEN = "geti_pat_003AuLtjc7TJLctqJ2Unu3mfAGcxg9lrkrCWgKbidLF_2xfgwV"
VISION, AUDIO = "65dc00000000000000000001", "65dc00000000000000000002"
YOLOX, FP16, INT8, ONNX = (f"65dc0000000000000000001{number}" for number in range(4))
WHISPER, VOICE = "65dc00000000000000000020", "65dc00000000000000000021"


class Worker(WorkInMemory):
    """Imports what is queued at once: with the outcome that is given here by id, None for none, else `registered`."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, ImportedModel | None] = {}

    def queue(self, order: Order, delay_seconds: int = 0) -> None:
        super().queue(order, delay_seconds)
        done = ImportedModel(id=order.model_id, outcome="registered")
        outcome = self.outcomes.get(order.model_id, done)
        if outcome and order.import_id:
            wiring_geti.imports().settle(order.import_id, outcome)


class GetiStage:
    """A server with two projects, what was asked of other functions, and how long somebody waited."""

    def __init__(self) -> None:
        self.server = GetiServer()
        self.work = Worker()
        self.slept: list[float] = []
        models = (
            openvino(FP16),
            openvino(INT8, "YOLOX-S OpenVINO INT8", precision=("INT8",)),
            openvino(ONNX, "YOLOX-S ONNX FP32", format="ONNX"),
        )
        self.server.add(VISION, "vision", group(YOLOX, "YOLOX-S", trained("65dc000000000000000000b1", *models)))
        voice = openvino(VOICE, "Whisper OpenVINO FP16")
        self.server.add(AUDIO, "audio", group(WHISPER, "Whisper", trained("65dc000000000000000000b2", voice)))

    def json(self, request: object) -> object:
        """As whatever leads to the server, for who only wants to know whether it answers."""
        return self.server.info

    def close(self) -> None:
        pass

    def fails(self, model_id: str, why: str) -> None:
        self.work.outcomes[model_id] = ImportedModel(id=model_id, outcome="failed", why=why)

    def waits(self, model_id: str) -> None:
        self.work.outcomes[model_id] = None


@pytest.fixture
def geti(monkeypatch: pytest.MonkeyPatch) -> GetiStage:
    """To be asked for before `service`, which reads the environment."""
    stage, seconds = GetiStage(), count()
    monkeypatch.setenv("GETI_HOST", "https://geti.test")
    monkeypatch.setenv("GETI_TOKEN", GETI_TOKEN)
    monkeypatch.setattr(wiring_geti, "geti", lambda: stage.server)
    monkeypatch.setattr(wiring_geti, "_way_to_geti", lambda limits: stage)
    monkeypatch.setattr(wiring_geti, "_behind", lambda way: stage.server)
    monkeypatch.setattr(wiring_geti, "work", lambda: stage.work)
    # A second passes with each look at the watch, and none by sleeping.
    monkeypatch.setattr(projects, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(projects, "sleep", stage.slept.append)
    return stage
