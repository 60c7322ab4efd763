"""`make run`: the emulator up, the template deployed when something changed, one READY line, a clean stop.

Standard output is data: one line, `READY <base url>`. Progress and problems go to standard error.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any, get_args
from urllib.parse import urlsplit

from pydantic import SecretStr

from chalicelib.settings import Settings, SettingsError, read_settings
from infra.local import CHECKPOINT_PATH, DEPLOYED, DEPLOYING, REFUSAL, STACK
from infra.local.deploy import REGION, DeploymentError, deploy, deployment_digest, is_deployed
from infra.local.overlay import SYNC_SCHEDULE, Local
from infra.package import ROOT, TEMPLATE, PackagingError, packaged

HOST = "127.0.0.1"
# Set by the deployment itself, never by the operator.
_WIRING = (
    *("registry_table", "events_table", "artifact_bucket", "audit_bucket", "s3_public_endpoint", "public_url"),
    *("import_queue_url", "sync_function", "errand_queue_url"),
)
_SECRETS = {name.upper() for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation)}
# As the template has it for GetiSyncSchedule.
_SCHEDULE = r"^(rate\((1 (minute|hour|day)|[1-9]\d* (minutes|hours|days))\)|cron\(\S+( \S+){5}\))$"
_START_SECONDS = 600  # a large state and a long journal are read first
_HEALTHY_SECONDS = 60
_PREVIOUS_RUN_SECONDS = 60
_STOP_SECONDS = 600  # the emulator saves its state; killing it loses nothing but makes the next start slower


class CannotRunError(Exception):
    """One sentence for the operator: what is wrong and what to do."""


class Stopped(BaseException):
    """The operator asked to stop. Like KeyboardInterrupt it passes every `except Exception`."""


@dataclass(frozen=True)
class Options:
    """What the operator chose."""

    local: Local
    data_dir: Path
    # Deployed instead of the sources as they are: tests go on while somebody edits.
    package: Path | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Options":
        """Raises CannotRunError, naming the variable, for a value that cannot be used."""
        port = environment.get("PORT") or "4566"
        if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
            raise CannotRunError(f"PORT must be a number from 1 to 65535, not {port!r}.")
        data_dir = Path(environment.get("DATA_DIR") or ROOT / ".local").absolute()
        package = Path(environment["PACKAGE_DIR"]) if environment.get("PACKAGE_DIR") else None
        if package and not (package / TEMPLATE).is_file():
            raise CannotRunError(f"PACKAGE_DIR must be what `python -m infra.package` made, not {str(package)!r}.")
        given = _service_settings(environment)
        secrets = {name: given.pop(name) for name in _SECRETS & given.keys()}
        return cls(Local(int(port), given, secrets, _sync_schedule(environment)), data_dir, package)


def _sync_schedule(environment: Mapping[str, str]) -> str:
    schedule = environment.get("GETI_SYNC_SCHEDULE") or SYNC_SCHEDULE
    if not re.fullmatch(_SCHEDULE, schedule):
        raise CannotRunError(f"GETI_SYNC_SCHEDULE must be as rate(5 minutes), or cron(...), not {schedule!r}.")
    return schedule


def _service_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The service's own settings that the operator gave, checked as the service will check them."""
    wiring = {name.upper(): f"https://{name}.set-by-the-deployment" for name in _WIRING}
    names = {name.upper(): name.upper() for name in Settings.model_fields if name not in _WIRING}
    names["POWERTOOLS_LOG_LEVEL"] = "LOG_LEVEL"
    given = {name: environment[stated] for name, stated in names.items() if environment.get(stated)}
    if (bundle := given.get("GETI_CA_BUNDLE")) and "-----BEGIN" not in bundle:
        # A file: the functions run in other directories.
        file = Path(bundle).absolute()
        if not file.is_file():
            raise CannotRunError(f"GETI_CA_BUNDLE must be a PEM file or its text; there is no file {file}.")
        given["GETI_CA_BUNDLE"] = str(file)
    try:
        read_settings(wiring | given)
    except SettingsError as exc:
        problems = str(exc).replace("POWERTOOLS_LOG_LEVEL", "LOG_LEVEL")
        raise CannotRunError(f"A setting cannot be used: {problems}.") from exc
    return given


def run(environment: Mapping[str, str]) -> int:
    """Serve until told to stop; the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop_once)
    try:
        _serve(Options.of(environment))
    except (CannotRunError, DeploymentError, PackagingError) as exc:
        _say(str(exc))
        return 1
    except Stopped:
        _say("Stopped.")
        return 0
    return 1


def _stop_once(*_: object) -> None:
    # A second signal would interrupt the clean stop that the first one began. Not SIG_IGN: Python complains of a signal
    # that came at the same time and is ignored by then.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    raise Stopped


def _serve(options: Options) -> None:
    """Returns never: raises Stopped, or an error with a sentence for the operator."""
    with _data_of_our_own(options.data_dir) as lock:
        _check_port(options.local.port)
        package = options.package or _package()
        with _emulator(options, lock) as emulator:
            _deploy_if_changed(package, options, emulator)
            _wait_until_healthy(options, emulator)
            print(f"READY {options.local.base_url}", flush=True)
            if options.local.needs_tokens:
                _say(_how_to_get_a_token(options.local))
            code = emulator.wait()
        raise CannotRunError(_death_of_the_emulator(options, code))


def _how_to_get_a_token(local: Local) -> str:
    return (
        "Calls need a token (ACCESS=token). If there is no admin yet, make the first one's from another terminal:\n"
        f"  AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test .venv/bin/modelreg admin bootstrap --stack {STACK} "
        f"--region {REGION} --endpoint-url {local.endpoint} --login --url {local.base_url}"
    )


def _package() -> Path:
    _say("Packaging ...")
    return packaged()


@contextlib.contextmanager
def _data_of_our_own(data_dir: Path) -> Iterator[IO[str]]:
    """Hold the lock of the data. The emulator inherits it: data is not free while its emulator still saves."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("a+")
    except OSError as exc:
        raise CannotRunError(
            f"Cannot write to the data directory {data_dir} ({exc.strerror}): choose another with DATA_DIR=..."
        ) from exc
    with lock:
        _take(lock, data_dir)
        yield lock


def _take(lock: IO[str], data_dir: Path) -> None:
    deadline = time.monotonic() + _PREVIOUS_RUN_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            lock.seek(0)
            holder = lock.readline().strip() or "?"
            if _is_running(holder) or time.monotonic() > deadline:
                raise CannotRunError(
                    f"The data directory {data_dir} is in use by process {holder}: "
                    "stop it first, or choose another with DATA_DIR=..."
                ) from None
            # The runner is gone and its emulator is still saving.
            time.sleep(0.1)
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise CannotRunError(f"Port {port} needs root: choose another, make run PORT=8080.") from None
        except OSError:
            raise CannotRunError(
                f"Port {port} is in use by another program: choose another, make run PORT={port + 1}."
            ) from None


@contextlib.contextmanager
def _emulator(options: Options, lock: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The emulator, listening; stopped at the end, with everything it started."""
    _say("Starting the emulator ...")
    temporary = options.data_dir / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    log_file = options.data_dir / "emulator.log"
    if log_file.exists():
        log_file.rename(log_file.with_suffix(".log.1"))
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.emulator", str(options.data_dir)],
            cwd=ROOT,
            env=_emulator_environment(options, temporary),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            # Ctrl-C reaches the runner alone, which then stops the emulator in its own time.
            process_group=0,
            pass_fds=[lock.fileno()],
        )
    # The lock names both: whoever finds the data in use, or something left over, knows what to look for.
    lock.write(f"{process.pid}\n")
    lock.flush()
    try:
        _wait_until_listening(options, process)
        yield process
    finally:
        _stop(process)


def _emulator_environment(options: Options, temporary: Path) -> dict[str, str]:
    """Everything the emulator sees, and so everything the Lambda functions in it inherit."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
    return {
        **inherited,
        **options.local.secrets,
        "GATEWAY_PORT": str(options.local.port),
        "BIND_HOST": HOST,
        "PERSIST_STATE": "1",
        "STATE_DIR": str(options.data_dir / "state"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(options.data_dir / "s3"),
        "TMPDIR": str(temporary),
        "AUTH": "true",
        "IOT_MTLS_ENABLED": "0",
        "PYTHONWARNINGS": "ignore",
        "PYTHONUNBUFFERED": "1",
    }


def _wait_until_listening(options: Options, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CannotRunError(_death_of_the_emulator(options, process.returncode))
        with contextlib.suppress(OSError), socket.create_connection((HOST, options.local.port), timeout=1):
            return
        time.sleep(0.05)
    raise CannotRunError(f"The emulator does not answer; its log is {options.data_dir / 'emulator.log'}.")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        _say("Stopping ...")
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    # What is left of its process group: Lambda functions, or the emulator if it did not listen.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _death_of_the_emulator(options: Options, code: int) -> str:
    log = options.data_dir / "emulator.log"
    last = log.read_text(errors="replace").rstrip().rpartition("\n")[2]
    if last.startswith(REFUSAL):
        return last.removeprefix(REFUSAL)
    return f"The emulator ended by itself (exit code {code}); its log is {log}."


def _deploy_if_changed(package: Path, options: Options, emulator: subprocess.Popen[bytes]) -> None:
    digest = deployment_digest(package, options.local)
    note = options.data_dir / "deployed.json"
    if _noted(note) == digest and is_deployed(options.local):
        _tell(emulator, DEPLOYED)
        return
    _say("Deploying ...")
    note.unlink(missing_ok=True)
    with _whole_or_not_at_all(emulator):
        deploy(package, options.local, options.data_dir, emulator.pid)
        # What was deployed must survive a crash as well; the journal holds only what is in the tables.
        _checkpoint(options.local)
    note.write_text(json.dumps({"digest": digest}))


@contextlib.contextmanager
def _whole_or_not_at_all(emulator: subprocess.Popen[bytes]) -> Iterator[None]:
    """A deployment that does not end is not saved: CloudFormation cannot go on from the middle of one.

    The emulator then ends as in a crash, with what it had before, and with all that was acknowledged.
    """
    _tell(emulator, DEPLOYING)
    try:
        yield
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(emulator.pid, signal.SIGKILL)
        raise
    _tell(emulator, DEPLOYED)


def _tell(emulator: subprocess.Popen[bytes], word: bytes) -> None:
    if emulator.stdin is not None:
        emulator.stdin.write(word)
        emulator.stdin.flush()


def _checkpoint(local: Local) -> None:
    try:
        status, answer = _asked("POST", local.endpoint + CHECKPOINT_PATH, _START_SECONDS)
    except (OSError, HTTPException) as exc:
        raise CannotRunError(f"The emulator could not save what was deployed ({exc}).") from exc
    if status != HTTPStatus.NO_CONTENT:
        raise CannotRunError(f"The emulator could not save what was deployed ({status} {answer}).")


def _asked(method: str, url: str, timeout_seconds: float) -> tuple[int, str]:
    """Status and beginning of the answer. Raises OSError and HTTPException. HTTP only, whatever the URL begins with."""
    place = urlsplit(url)
    connection = HTTPConnection(place.hostname or HOST, place.port, timeout=timeout_seconds)
    with contextlib.closing(connection):
        connection.request(method, f"{place.path}?{place.query}" if place.query else place.path)
        answer = connection.getresponse()
        return answer.status, answer.read(500).decode(errors="replace")


def _noted(note: Path) -> Any:
    try:
        return json.loads(note.read_text())["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # deploying once more does no harm


def _wait_until_healthy(options: Options, process: subprocess.Popen[bytes]) -> None:
    url, answer = f"{options.local.base_url}/health?deep=true", "nothing"
    deadline = time.monotonic() + _HEALTHY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            status, text = _asked("GET", url, 30)
            if status == HTTPStatus.OK:
                return
            answer = f"{status} {text}"
        except (OSError, HTTPException) as exc:
            answer = str(exc)
        time.sleep(0.2)
    raise CannotRunError(
        f"The service does not become healthy: GET {url} answers {answer}; the log of the emulator is "
        f"{options.data_dir / 'emulator.log'}."
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
