"""The network of the demo: Silero's voice activity detector, as its Python package ships it.

It hears 32 ms of sound at a time and says how likely somebody speaks. Here it is converted to OpenVINO IR, zipped, and
run. What it needs to know of earlier sound, a few samples and a state, is carried along by `speech_probabilities`.
"""

import math
import zipfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino

RATE_HZ = 16_000
WINDOW = 512  # samples
EARLIER = 64  # samples of the window before that each window begins with
STATE_SHAPE = (2, 1, 128)
PITCH_HZ = 120.0
# Centre and width of what makes a vowel.
FORMANTS_HZ = {
    "a": ((730, 90), (1090, 110), (2440, 170), (3400, 250)),
    "i": ((270, 60), (2290, 110), (3010, 170), (3700, 250)),
    "u": ((300, 60), (870, 100), (2240, 170), (3400, 250)),
}
Sound = npt.NDArray[np.float32]

_PACKAGE = "silero-vad"
_FILE = "silero_vad/data/silero_vad_openvino_16k.onnx"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network as its publisher made it."""

    name: str
    version: str
    path: Path


def trained_network() -> TrainedNetwork:
    """The ONNX file in the installed package, whose code is not imported."""
    package = distribution(_PACKAGE)
    return TrainedNetwork(_PACKAGE, package.version, Path(str(package.locate_file(_FILE))))


def converted(network: TrainedNetwork, directory: Path) -> Path:
    """The network as OpenVINO IR with weights of 16 bits: the .xml, with its .bin beside it."""
    model = openvino.convert_model(network.path)
    # Where OpenVINO's training tools say what a network does; the registry reads it.
    model.set_rt_info("speech_detection", ["model_info", "task_type"])
    model.set_rt_info("speech", ["model_info", "labels"])
    xml = directory / f"{network.name}.xml"
    openvino.save_model(model, xml, compress_to_fp16=True)
    return xml


def zipped(xml: Path) -> Path:
    """An archive of an IR, beside it."""
    archive = xml.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for path in (xml, xml.with_suffix(".bin")):
            target.write(path, path.name)
    return archive


def unzipped(archive: Path, directory: Path) -> Path:
    """The .xml of the IR in an archive, extracted."""
    with zipfile.ZipFile(archive) as source:
        source.extractall(directory)
    return next(directory.rglob("*.xml"))


def speech_probabilities(model: Path, sound: Sound) -> Sound:
    """How likely there is speech in each window of the sound, from 0 to 1. `model` is an ONNX file or an IR."""
    # Some processors would compute with 16 bits unasked, which changes more than the weights do.
    network = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    state, earlier = np.zeros(STATE_SHAPE, np.float32), np.zeros(EARLIER, np.float32)
    found = []
    for start in range(0, len(sound) - WINDOW + 1, WINDOW):
        window = sound[start : start + WINDOW]
        answer = network([np.concatenate([earlier, window])[None], state])
        found.append(answer[0].item())
        state, earlier = answer[1], window[-EARLIER:]
    return np.array(found, np.float32)


def sounds() -> dict[str, Sound]:
    """A second each of things to tell apart, computed."""
    seconds = np.arange(RATE_HZ) / RATE_HZ
    return {
        "silence": np.zeros(RATE_HZ, np.float32),
        "a tone of 440 Hz": (0.3 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32),
        "ah ee oo ah": np.concatenate([_syllable(vowel) for vowel in "aiua"]),
    }


def _syllable(vowel: str) -> Sound:
    """A quarter of a second of a voice: the overtones of a pitch, strengthened where the vowel resonates."""
    seconds = np.arange(RATE_HZ // 4) / RATE_HZ
    vibrato = 1 + 0.03 * np.sin(2 * np.pi * 5 * seconds)
    phase = 2 * np.pi * np.cumsum(PITCH_HZ * vibrato) / RATE_HZ
    overtones = range(1, int(RATE_HZ / 2 / PITCH_HZ))
    strengths = [_resonance(n * PITCH_HZ, FORMANTS_HZ[vowel]) / n for n in overtones]
    voice = strengths @ np.sin(np.outer(overtones, phase))
    swelling = np.sqrt(np.sin(np.pi * seconds / seconds[-1]))
    return np.asarray(0.3 * swelling * voice / np.abs(voice).max(), np.float32)


def _resonance(hz: float, formants: tuple[tuple[int, int], ...]) -> float:
    """How much resonators in a row, each with a centre and a width, strengthen a frequency."""
    return math.prod(center**2 / abs(center**2 - hz**2 + 1j * hz * width) for center, width in formants)
