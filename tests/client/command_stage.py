"""Runs `modelreg` in this process on top of a Registry in memory, and keeps what it printed."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from modelreg import (
    Checkpoint,
    Decision,
    Event,
    Manifest,
    ManifestFile,
    Model,
    NewToken,
    RegisteredModel,
    Token,
    cli,
    session,
)
from modelreg.errors import InvalidInput, LocalError, NotFound
from modelreg.tokens import minted
from typer.testing import CliRunner

from tests.client.geti_in_memory import GetiInMemory

URL = "https://registry.example.org"
SECRET = minted(clock=lambda: 0.0, random_bits=lambda bits: 2**bits // 3)
TOKEN = SECRET.text  # as whole as a token can be
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def model(number: int = 1, **fields: Any) -> Model:
    """A model as the registry answers it; the id tells the number."""
    known = {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "name": "detector",
        "version": f"v{number}",
        "number": number,
        "precision": ["fp16"],
        "format": "ONNX",
        "size": 1_234_567,
        "revision": 1,
        "registered_model_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "created_date": "2026-01-02 03:04:05.000000 UTC",
    }
    return Model(**{**known, **fields})


def token(token_id: str = SECRET.id, **fields: Any) -> Token:
    """A token as the registry answers it."""
    known = {"id": token_id, "name": "ci", "role": "publisher", "state": "active", "created_at": CREATED}
    return Token(**{**known, **fields})


def event(number: int = 1, **fields: Any) -> Event:
    known = {
        "id": f"01{number:024d}",
        "time": datetime(2026, 1, 2, 3, 4, number, tzinfo=UTC),
        "action": "version.updated",
        "subject": "MODEL#00000000-0000-4000-8000-000000000001",
        "seq": number,
        "actor": {"kind": "token", "name": "ci", "token_id": SECRET.id},
        "changes": {"score": (0.5, 0.9)},
        "digest": "d" * 64,
    }
    return Event(**{**known, **fields})


def zip_of(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


class RegistryInMemory(GetiInMemory):
    """What the command needs of modelreg.Registry, without a network. `failures` are raised by the method named."""

    def __init__(self) -> None:
        super().__init__()
        self.models: list[Model] = []
        self.content: dict[str, bytes] = {}
        self.alias_numbers: dict[str, int] = {}
        self.description: str | None = None
        self.tags: dict[str, str] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.failures: dict[str, BaseException] = {}
        self.opened: list[tuple[str, str | None]] = []
        self.downloads = 0
        self.known_tokens: list[Token] = []
        self.trail: list[Event] = []
        self.documents: list[dict[str, Any]] = []
        self.stored_checkpoints: list[tuple[Checkpoint, bytes]] = []
        self.url = URL
        self.decision = Decision(allowed=True, status=200, rule="Role publisher covers update.")

    def open(self, url: str, token: str | None) -> "RegistryInMemory":
        self.opened.append((url, token))
        return self

    def __enter__(self) -> "RegistryInMemory":
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def add(self, added: Model, content: bytes = b"weights", file_name: str = "model.zip") -> Model:
        known = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        known["file_url"] = f"s3://bucket/artifacts/01/{file_name}"
        added = added.model_copy(update=known)
        self.models.append(added)
        self.content[added.id] = content
        return added

    def _called(self, method: str, **arguments: Any) -> None:
        self.calls.append((method, arguments))
        if method in self.failures:
            raise self.failures[method]

    def health(self) -> None:
        self._called("health")

    def register(self, path: Path, *, name: str, version: str, progress: Any = None, **metadata: Any) -> Model:
        self._called("register", path=path, name=name, version=version, **metadata)
        progress.start(path.name, 1000, 0)
        progress.advance(1000)
        progress.finish()
        fields = {"name": name, "version": version, **metadata}
        added = model(len(self.models) + 1, **fields)
        self.models.append(added)
        return added

    def download(self, model_id: str, target: Any, *, progress: Any = None, overwrite: bool = False) -> Path:
        self._called("download", model_id=model_id, target=target, overwrite=overwrite)
        found = self.get(model_id)
        place = Path(target)
        if str(target).endswith("/"):
            place = place / (found.file_url or "").rpartition("/")[2]
        content = self.content[model_id]
        if place.exists() and place.read_bytes() == content:
            return place
        if place.exists() and not overwrite:
            raise LocalError(f"{place} exists already.")
        self.downloads += 1
        place.parent.mkdir(parents=True, exist_ok=True)
        progress.start(place.name, len(content), 0)
        place.write_bytes(content)
        progress.advance(len(content))
        progress.finish()
        return place

    def get(self, model_id: str) -> Model:
        self._called("get", model_id=model_id)
        found = next((known for known in self.models if known.id == model_id), None)
        if found is None:
            raise NotFound("Model not found.")
        return found

    def list(self, *, limit: int | None = None) -> Iterator[Model]:
        self._called("list", limit=limit)
        return iter(self.models[:limit])

    def search(self, *, limit: int | None = None, tags: Mapping[str, str] = {}, **filters: str) -> Iterator[Model]:
        self._called("search", limit=limit, tags=tags, **filters)
        return iter([known for known in self.models if filters.get("name", "") in known.name][:limit])

    def update(self, model_id: str, *, if_revision: int | None = None, **fields: Any) -> Model:
        self._called("update", model_id=model_id, if_revision=if_revision, **fields)
        return self.get(model_id).model_copy(update={**fields, "revision": 2})

    def delete(self, model_id: str) -> None:
        self._called("delete", model_id=model_id)
        self.models.remove(self.get(model_id))

    def manifest(self, model_id: str) -> Manifest:
        self._called("manifest", model_id=model_id)
        found, content = self.get(model_id), self.content[model_id]
        name = (found.file_url or "").rpartition("/")[2]
        files = [ManifestFile(path=name, size=len(content))]
        if name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                files = [
                    ManifestFile(path=info.filename, size=info.file_size, crc32=f"{info.CRC:08x}")
                    for info in archive.infolist()
                ]
        return Manifest(
            id=model_id, file_name=name, size=len(content), sha256=found.sha256, files=files, file_count=len(files),
            media_type="application/zip" if name.endswith(".zip") else "application/octet-stream",
            inflated_size=sum(file.size for file in files), format=found.format, precision=found.precision,
        )  # fmt: skip

    def registered_models(self, *, limit: int | None = None) -> Iterator[RegisteredModel]:
        self._called("registered_models", limit=limit)
        return iter([self._registered("detector")])

    def registered_model(self, name: str) -> RegisteredModel:
        self._called("registered_model", name=name)
        self._of(name)
        return self._registered(name)

    def versions(self, name: str, *, version: str | None = None) -> Iterator[Model]:
        self._called("versions", name=name)
        return iter(reversed(self._of(name)))

    def resolve(
        self, name: str, *, version: str | None = None, alias: str | None = None, precision: str | None = None
    ) -> Model:
        self._called("resolve", name=name, version=version, alias=alias, precision=precision)
        found = self._of(name)
        if version is not None:
            found = [known for known in found if known.version == version]
        if alias is not None:
            if " " in alias:
                raise InvalidInput("An alias is made of letters, digits, _ and -.", field="alias")
            found = [known for known in found if known.number == self.alias_numbers.get(alias)]
        if not found:
            raise NotFound(f"{name} has no such version. Its versions: v1 (fp16).")
        return found[-1]

    def aliases(self, name: str) -> dict[str, int]:
        self._called("aliases", name=name)
        return self.alias_numbers

    def set_alias(self, name: str, alias: str, number: int) -> RegisteredModel:
        self._called("set_alias", name=name, alias=alias, number=number)
        self.alias_numbers[alias] = number
        return self._registered(name)

    def remove_alias(self, name: str, alias: str) -> RegisteredModel:
        self._called("remove_alias", name=name, alias=alias)
        self.alias_numbers.pop(alias, None)
        return self._registered(name)

    def edit_registered_model(self, name: str, **changes: Any) -> RegisteredModel:
        self._called("edit_registered_model", name=name, **changes)
        return self._registered(name)

    def abort_upload(self, upload_id: str) -> None:
        self._called("abort_upload", upload_id=upload_id)

    def create_token(self, name: str, role: str, **limits: Any) -> NewToken:
        self._called("create_token", name=name, role=role, **limits)
        fields = {"id": SECRET.id, "name": name, "role": role, "state": "active", "created_at": CREATED, **limits}
        made = NewToken(token=TOKEN, **fields)
        self.known_tokens.append(made)
        return made

    def tokens(self, *, limit: int | None = None) -> Iterator[Token]:
        self._called("tokens", limit=limit)
        return iter(self.known_tokens[:limit])

    def token(self, token_id: str) -> Token:
        self._called("token", token_id=token_id)
        found = next((known for known in self.known_tokens if known.id == token_id), None)
        if found is None:
            raise NotFound("There is no such token.")
        return found

    def revoke_token(self, token_id: str) -> None:
        self._called("revoke_token", token_id=token_id)
        self.token(token_id)

    def can(self, token_id: str, action: str, model_id: str | None = None, **stated: str) -> Decision:
        self._called("can", token_id=token_id, action=action, model_id=model_id, **stated)
        return self.decision

    def events(self, model_id: str | None = None, *, limit: int | None = None, **filters: Any) -> Iterator[Event]:
        self._called("events", model_id=model_id, limit=limit, **filters)
        return iter(self.trail[:limit])

    def event_documents(self, **moments: Any) -> Iterator[dict[str, Any]]:
        self._called("event_documents", **moments)
        return iter(self.documents)

    def checkpoints(self, *, limit: int | None = None) -> Iterator[Checkpoint]:
        self._called("checkpoints", limit=limit)
        return iter([known for known, _ in self.stored_checkpoints][:limit])

    def read_checkpoint(self, checkpoint: Checkpoint) -> bytes:
        self._called("read_checkpoint", key=checkpoint.key)
        return {known.key: content for known, content in self.stored_checkpoints}[checkpoint.key]

    def _of(self, name: str) -> "list[Model]":
        found = [known for known in self.models if name in (known.name, f"{known.project_name}.{known.name}")]
        if not found:
            raise NotFound(f"There is no registered model {name!r}.")
        return found

    def _registered(self, name: str) -> RegisteredModel:
        return RegisteredModel(
            name=name, model_name=name, registered_model_id="01ARZ3NDEKTSV4RRFFQ69G5FAV", aliases=self.alias_numbers,
            description=self.description, tags=self.tags,
        )  # fmt: skip


class Ran(NamedTuple):
    """How a command ended, and what it printed where."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Stage:
    """`modelreg` with a home of its own. `terminal` makes both streams and the input terminals."""

    registry: RegistryInMemory
    home: Path
    environment: dict[str, str | None] = field(default_factory=dict)
    show_terminal: Callable[[], None] = lambda: None

    def __call__(self, *arguments: str | Path, stdin: str | None = None) -> Ran:
        ran = CliRunner().invoke(cli.app, [str(part) for part in arguments], input=stdin, env=self.environment)
        return Ran(ran.exit_code, ran.stdout, ran.stderr)

    def fail(self, method: str, error: BaseException) -> None:
        self.registry.failures[method] = error

    def arguments_of(self, method: str) -> dict[str, Any]:
        """Of the last call of the method."""
        return [arguments for called, arguments in self.registry.calls if called == method][-1]

    @property
    def config(self) -> Path:
        return self.home / ".config/modelreg/config.json"


def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    registry = RegistryInMemory()
    monkeypatch.setattr(session, "open_registry", registry.open)
    home = tmp_path / "home"
    home.mkdir()
    names = ("MODELREG_TOKEN", "MODELREG_DEBUG", "NO_COLOR", "FORCE_COLOR", "XDG_CONFIG_HOME", "COLUMNS")
    environment: dict[str, str | None] = {"HOME": str(home), "MODELREG_URL": URL, **dict.fromkeys(names)}

    def show_terminal() -> None:
        monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _stream: True)
        environment.update(TERM="xterm-256color", COLUMNS="100")

    return Stage(registry, home, environment, show_terminal)
