"""The Python client against the whole service, behind strict S3: large, interrupted, corrupted, crowded."""

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modelreg import Conflict, Corrupt, InvalidArchive, LocalError, Registry
from modelreg.retry import Patience

from tests.e2e.strict_stack import Api, unique
from tests.simulators.proxy import Reply, Request
from tests.simulators.strict_s3 import s3_error

MEBIBYTE = 1024**2
MAX_CLIENT_BYTES = 300 * MEBIBYTE  # a few parts of 16 MiB, and Python
MAX_FUNCTION_BYTES = 256 * MEBIBYTE  # of 1,024 MiB


@pytest.fixture
def client(api: Api) -> Iterator[Registry]:
    """A client that does not wait between tries."""
    with Registry(api.url, patience=Patience(wait=lambda stop, seconds: None)) as registry:
        yield registry


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of five parts, each different."""
    return made(tmp_path / "weights.bin", 65 * MEBIBYTE)


def made(path: Path, size: int) -> Path:
    """A file of so many bytes, the same every time, no block of it like another."""
    block = random.Random(1).randbytes(MEBIBYTE - 8)
    with path.open("wb") as file:
        for number in range(size // MEBIBYTE):
            file.write(number.to_bytes(8, "little") + block)
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_number(request: Request) -> int | None:
    """Which part a request brings, if any."""
    number = request.query.get("partNumber")
    return int(number) if request.method == "PUT" and number else None


@pytest.fixture
def fault(api: Api) -> Iterator[Callable[[Callable[[Request], Reply | None]], None]]:
    """Have S3 answer otherwise for the rest of the test."""

    def install(answer: Callable[[Request], Reply | None]) -> None:
        api.s3.fault = answer

    yield install
    api.s3.fault = None


def child(api: Api, script: str, **limits: Any) -> subprocess.Popen[str]:
    """A process of its own that has the client as `registry`."""
    code = f"from modelreg import Registry\nregistry = Registry({api.url!r})\n{textwrap.dedent(script)}"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        **limits,
    )


def outcome(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def test_a_gibibyte_there_and_back_in_bounded_memory(api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, back = made(tmp_path / "large.bin", 1024 * MEBIBYTE), tmp_path / "back.bin"
    digest = sha256(source)

    script = f"""
        model = registry.register({str(source)!r}, name={unique("gibibyte")!r}, version="v1")
        print(model.sha256, model.size)
        registry.download(model.id, {str(back)!r})
        print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
    """
    stated, client_kibibytes = outcome(child(api, script)).splitlines()

    assert stated == f"{digest} {1024 * MEBIBYTE}"
    assert sha256(back) == digest
    client_bytes = int(client_kibibytes) * 1024
    functions = max(peak_bytes(pid) for pid in api.stack.processes if pid != api.stack.emulator_pid)
    with capsys.disabled():
        print(f"\n1 GiB: client {client_bytes / 1e6:.0f} MB at most, function {functions / 1e6:.0f} MB")
    assert client_bytes <= MAX_CLIENT_BYTES
    assert functions <= MAX_FUNCTION_BYTES


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


@pytest.mark.parametrize("seed", range(2))
def test_after_a_kill_only_the_missing_parts_are_sent(
    api: Api, client: Registry, weights: Path, monkeypatch: pytest.MonkeyPatch, seed: int
):
    name, until = unique("killed"), random.Random(seed).randint(1, 4)
    free, arrived, stored, killed = (threading.Semaphore(count) for count in (until, 0, 0, 0))
    answer = api.s3.answer

    def answer_some(request: Request) -> Reply:
        """So many parts are stored; the others wait for the end of their sender."""
        if not part_number(request):
            return answer(request)
        if free.acquire(blocking=False):
            reply = answer(request)
            stored.release()
            return reply
        arrived.release()
        killed.acquire(timeout=60)
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(api.s3, "answer", answer_some)
        process = child(api, f"registry.register({str(weights)!r}, name={name!r}, version='v1')")
        for semaphore in [arrived] + [stored] * until:
            assert semaphore.acquire(timeout=120)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed.release(5)
    [state] = weights.parent.glob(".*modelreg-upload*.json")
    there = stored_parts(api, state)
    before = len(api.s3.seen)

    model = client.register(weights, name=name, version="v1")

    again = Counter(filter(None, (part_number(request) for request in api.s3.seen[before:])))
    assert len(there) == until
    assert again == dict.fromkeys({1, 2, 3, 4, 5} - there, 1)
    assert model.sha256 == sha256(weights)
    assert not list(weights.parent.glob(".*modelreg*json"))


def stored_parts(api: Api, state: Path) -> set[int]:
    """What S3 has of the upload in this state file, which tells no secret."""
    kept = json.loads(state.read_text())
    assert "X-Amz" not in state.read_text()
    parts = api.get(f"/uploads/{kept['upload_id']}").json()["parts"]
    return {part["number"] for part in parts}


def test_a_byte_that_flips_on_the_way_is_refused_and_sent_again(api: Api, client: Registry, weights: Path, monkeypatch):
    flipped, forward = [], api.s3.forward

    def flip(request: Request) -> Reply:
        if part_number(request) == 3 and not flipped:
            reply = forward(replace(request, body=bytes([request.body[0] ^ 1]) + request.body[1:]))
            flipped.append(reply.status)
            return reply
        return forward(request)

    monkeypatch.setattr(api.s3, "forward", flip)

    model = client.register(weights, name=unique("flipped"), version="v1")

    assert flipped == [400]
    assert sha256(client.download(model.id, weights.parent / "back.bin")) == sha256(weights)


def test_a_line_that_always_flips_bytes_registers_nothing(api: Api, client: Registry, weights: Path, monkeypatch):
    forward = api.s3.forward

    def flip(request: Request) -> Reply:
        body = bytes([request.body[0] ^ 1]) + request.body[1:] if part_number(request) else request.body
        return forward(replace(request, body=body))

    monkeypatch.setattr(api.s3, "forward", flip)

    with pytest.raises(Corrupt):
        client.register(weights, name=(name := unique("corrupt")), version="v1")

    assert api.found(name=name) == []


def test_it_completes_though_three_of_ten_connections_are_lost(api: Api, client: Registry, weights: Path, monkeypatch):
    """Half of them before the request is sent on, half with the answer of what was done."""
    chance, lock = random.Random(7), threading.Lock()
    lost: Counter[str] = Counter()

    def losing(answer: Callable[[Request], Reply], where: str) -> Callable[[Request], Reply]:
        def unreliable(request: Request) -> Reply:
            with lock:
                drawn = chance.random()
            if drawn < 0.15:
                lost[where] += 1
                raise ConnectionResetError
            reply = answer(request)
            if drawn < 0.3:
                lost[where] += 1
                raise ConnectionResetError
            return reply

        return unreliable

    answer, unreliable = api.s3.answer, losing(api.s3.answer, "s3")

    def lose_from_clients(request: Request) -> Reply:
        """The function's own calls stay within one data centre."""
        return unreliable(request) if "X-Amz-Signature" in request.query else answer(request)

    monkeypatch.setattr(api.s3, "answer", lose_from_clients)
    monkeypatch.setattr(api.gateway, "answer", losing(api.gateway.answer, "gateway"))

    model = client.register(weights, name=unique("unreliable"), version="v1")
    back = client.download(model.id, weights.parent / "back.bin")

    assert sha256(back) == sha256(weights)
    assert lost["s3"]


def test_urls_that_have_expired_are_asked_for_again(api: Api, client: Registry, weights: Path, fault):
    seen: Counter[int] = Counter()

    def expire_once(request: Request) -> Reply | None:
        number = part_number(request)
        if number:
            seen[number] += 1
            if seen[number] == 1:
                return s3_error(403, "AccessDenied", "Request has expired")
        return None

    fault(expire_once)

    client.register(weights, name=unique("expired"), version="v1")

    assert seen == dict.fromkeys(range(1, 6), 2)


def test_sixteen_uploads_at_once(client: Registry, tmp_path: Path):
    name = unique("crowd")
    files = [tmp_path / f"{number}.bin" for number in range(16)]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]) * 100_000)

    with ThreadPoolExecutor(16) as threads:
        models = list(threads.map(lambda file: client.register(file, name=name, version=file.stem), files))

    assert sorted(model.number for model in models) == list(range(1, 17))
    assert [model.sha256 for model in models] == [sha256(file) for file in files]


def test_a_directory_becomes_an_archive_that_any_tool_extracts(client: Registry, tmp_path: Path):
    folder = tmp_path / "exported"
    (folder / "deployment").mkdir(parents=True)
    (folder / "deployment" / "model.xml").write_text('<net name="tiny" version="11"/>')
    (folder / "deployment" / "model.bin").write_bytes(b"weights")

    model = client.register(folder, name=unique("folder"), version="v1")

    back = client.download(model.id, tmp_path)
    assert back.name == "exported.zip"
    assert model.format == "OpenVINO"
    subprocess.run(["python3", "-m", "zipfile", "-e", str(back), str(tmp_path / "out")], check=True)
    assert (tmp_path / "out/deployment/model.bin").read_bytes() == b"weights"
    assert [file.path for file in client.manifest(model.id).files] == ["deployment/model.bin", "deployment/model.xml"]


def test_a_full_disk_leaves_no_file_under_the_final_name(api: Api, client: Registry, weights: Path, tmp_path: Path):
    model = client.register(weights, name=unique("full"), version="v1")
    target = tmp_path / "back.bin"
    script = f"""
        from modelreg import LocalError
        try:
            registry.download({model.id!r}, {str(target)!r})
        except LocalError as exc:
            print(exc)
    """

    said = outcome(child(api, script, preexec_fn=lambda: limit_files(20 * MEBIBYTE)))

    assert said.strip()
    assert not target.exists()
    assert sha256(client.download(model.id, target)) == sha256(weights)


def limit_files(size: int) -> None:
    """Have the kernel refuse to make a file larger than this."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_what_the_registry_refuses_is_told_by_class(client: Registry, weights: Path, tmp_path: Path):
    model = client.register(weights, name=(name := unique("refused")), version="v1")

    with pytest.raises(Conflict) as taken:
        client.register(weights, name=name, version="v1")
    assert (taken.value.holder, taken.value.upload_id) == (model.id, None)
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"no archive")
    with pytest.raises(InvalidArchive):
        client.register(broken, name=name, version="v2")
    with pytest.raises(LocalError):
        client.register(tmp_path / "nothing", name=name, version="v2")


def test_names_aliases_and_lists(client: Registry, tmp_path: Path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"onnx")
    name = unique("named")
    models = [client.register(file, name=name, version=f"v{number}", tags={"n": str(number)}) for number in (1, 2)]

    client.set_alias(name, "champion", 1)

    assert client.resolve(name).id == models[1].id
    assert client.resolve(name, alias="champion").id == client.resolve(name, version="v1").id == models[0].id
    assert client.aliases(name) == {"champion": 1}
    assert [model.id for model in client.versions(name)] == [models[1].id, models[0].id]
    assert [model.id for model in client.search(name=name, tags={"n": "2"})] == [models[1].id]
    assert client.update(models[1].id, score=0.5, description=None).score == 0.5
    assert name in [model.name for model in client.registered_models()]
    assert client.edit_registered_model(name, tags={"team": "vision"}).tags == {"team": "vision"}
    assert client.remove_alias(name, "champion").aliases == {}
    client.delete(models[1].id)
    assert [model.id for model in client.versions(name)] == [models[0].id]
