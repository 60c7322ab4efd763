"""A model back from the registry: the same bytes as went in, and a network that hears what the original hears."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from demo.network import sounds, speech_probabilities, unzipped
from demo.telling import call, command, require, shown, step, tell

# 16 bits of weights instead of 32 change a probability by less, where it rises and falls.
TOLERANCE = 0.05


def download(url: str, model_id: str, sent: Path, directory: Path) -> Path:
    """The file of a model, in this directory. Raises DemoFailedError if it is another one than was sent."""
    step("Download it, through the redirect to S3")
    received = directory / "downloaded.zip"
    command(f'curl -L -o {shown(received)} "{url}/models/{model_id}/files"')
    answer = call("GET", f"{url}/models/{model_id}/files", 200)
    for hop in answer.history:
        # What follows the path is a signature, and as good as a password.
        target = urlsplit(hop.headers["Location"])
        tell(f"{hop.status_code} to {target.scheme}://{target.netloc}{target.path}?...")
    received.write_bytes(answer.content)
    sha256 = hashlib.sha256(answer.content).hexdigest()
    tell(f"{answer.status_code}, {answer.headers['Content-Type']}, {len(answer.content):,} bytes, SHA-256 {sha256}")
    require(len(answer.history) == 1, "There should be one redirect.")
    require(answer.headers["Content-Type"] == "application/zip", "The type should be application/zip.")
    require(answer.content == sent.read_bytes(), f"The bytes should be those of {shown(sent)}.")
    record = call("GET", f"{url}/models/{model_id}", 200).json()
    require(sha256 == record["sha256"], "The SHA-256 should be the record's.")
    tell(f"the same bytes as {shown(sent)}, and the SHA-256 of the record")
    return received


def infer(original: Path, downloaded: Path, directory: Path) -> None:
    """Raises DemoFailedError if the network in the archive hears other things than the original."""
    step("Run what was downloaded, beside the network it was made from")
    ir = unzipped(downloaded, directory / "downloaded")
    heard = {}
    for name, sound in sounds().items():
        ours, theirs = speech_probabilities(ir, sound), speech_probabilities(original, sound)
        heard[name] = ours.max()
        tell(f"{name:<17} speech at most {ours.max():.3f}, of the original {theirs.max():.3f}")
        require(abs(ours - theirs).max() < TOLERANCE, "Both should hear the same.")
    require(heard["ah ee oo ah"] > 0.5 > heard["silence"], "A voice should be told from silence.")
