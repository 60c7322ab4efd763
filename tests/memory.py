"""The ports in memory: what the domain's tests stand on, and the model that the store is compared with.

They pass the same contract suite as the store (tests/contract).
"""

import base64
import hashlib
import io
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

from chalicelib.registry import audit
from chalicelib.registry.access import EVERYWHERE, Access, Actor
from chalicelib.registry.audit import Action, Change, Event
from chalicelib.registry.errors import Conflict, NotFound, StaleRevision, Unavailable
from chalicelib.registry.models import Draft, File, Filters, Head, Metadata, ModelVersion, Page, Placement
from chalicelib.registry.ports import Poured, SignedRequest
from chalicelib.registry.uploads import PART_BYTES, Part, StoredObject, Upload, composite_digest


@dataclass
class RegisteredModel:
    rm_id: str
    counter: int = 0


class MemoryCatalog:
    """Catalog (registry/ports.py) under one lock."""

    def __init__(self, new_ulid: Callable[[], str]) -> None:
        self._new_ulid = new_ulid
        self._lock = threading.RLock()
        self._versions: dict[str, ModelVersion] = {}
        self._names: dict[tuple[str | None, ...], RegisteredModel] = {}
        self._claims: dict[tuple[object, ...], str] = {}
        self._events: dict[str, list[Event]] = defaultdict(list)

    def ping(self) -> None:
        pass

    def version(self, model_id: str) -> ModelVersion:
        with self._lock:
            if model_id not in self._versions:
                raise NotFound("Model not found.")
            return self._versions[model_id]

    def search(self, filters: Filters, limit: int, after: str | None = None, within: Access = EVERYWHERE) -> Page:
        with self._lock:
            found = sorted(self._versions.values(), key=lambda version: version.position, reverse=True)
        seen = [version for version in found if within.sees(version.qualified_name)]
        rest = [version for version in seen if (not after or version.position < after) and matches(version, filters)]
        page = tuple(rest[:limit])
        return Page(versions=page, after=page[-1].position if len(rest) > limit else None)

    def place(self, draft: Draft, at: datetime) -> Placement:
        with self._lock:
            if draft.id in self._versions:
                raise Conflict(draft.id)
            model = self._names.get(_name(draft))
            if model and (holder := self._claims.get(_claim(model.rm_id, draft))):
                raise Conflict(holder)
            head = self._head(f"MODEL#{draft.id}")
            if model:
                return Placement(rm_id=model.rm_id, number=model.counter + 1, is_new_registered_model=False, head=head)
            return Placement(rm_id=self._new_ulid(), number=1, is_new_registered_model=True, head=head)

    def add(self, version: ModelVersion, placement: Placement, by: Actor) -> ModelVersion:
        with self._lock:
            draft = Draft(**{name: getattr(version, name) for name in Draft.model_fields})
            placement = self.place(draft, version.published_at)
            version = version.placed(placement)
            self._enter(version, by, version.published_at)
            self._happened(Action.VERSION_REGISTERED, None, version, by, version.published_at)
            self._versions[version.id] = version
            return version

    def change(
        self,
        model_id: str,
        edit: Callable[[ModelVersion], ModelVersion],
        by: Actor,
        at: datetime,
        if_revision: int | None = None,
    ) -> tuple[ModelVersion, ModelVersion]:
        with self._lock:
            before = self.version(model_id)
            by.access.require_seen(before.qualified_name)
            if if_revision not in (None, before.revision):
                raise StaleRevision(before.revision)
            after = edit(before)
            if after is before:
                return before, before
            after = self._moved(before, after)
            holder = self._claims.get(_claim(after.rm_id, after))
            if holder not in (None, model_id):
                raise Conflict(holder)
            del self._claims[_claim(before.rm_id, before)]
            self._enter(after, by, at)
            self._happened(Action.VERSION_UPDATED, before, after, by, at)
            self._versions[model_id] = after
            return before, after

    def remove(self, model_id: str, by: Actor, at: datetime) -> tuple[ModelVersion, str | None]:
        with self._lock:
            version = self.version(model_id)
            by.access.require_seen(version.qualified_name)
            del self._versions[model_id]
            del self._claims[_claim(version.rm_id, version)]
            self._happened(Action.VERSION_DELETED, version, None, by, max(at, version.updated_at))
            return version, version.file.key if version.file else None

    def begun_by(self, model_id: str) -> Actor | None:
        return audit.begun_by(reversed(self._events.get(f"MODEL#{model_id}", [])))

    def events(self, subject: str) -> tuple[list[Event], Head]:
        if subject not in self._events:
            raise NotFound("Nothing has happened to this subject.")
        return list(self._events[subject]), self._head(subject)

    def _moved(self, before: ModelVersion, after: ModelVersion) -> ModelVersion:
        if _name(before) == _name(after):
            return after
        target = self._names.get(_name(after)) or RegisteredModel(self._new_ulid())
        return after.model_copy(update={"rm_id": target.rm_id, "number": target.counter + 1})

    def _enter(self, version: ModelVersion, by: Actor, at: datetime) -> None:
        if _name(version) not in self._names:
            self._names[_name(version)] = RegisteredModel(version.rm_id)
            change = Change(
                event_id=self._new_ulid(), at=at, actor=by, action=Action.REGISTERED_MODEL_CREATED, changes="{}"
            )
            self._events[f"RM#{version.rm_id}"].append(change.after(f"RM#{version.rm_id}", Head()))
        model = self._names[_name(version)]
        model.counter = max(model.counter, version.number)
        self._claims[_claim(version.rm_id, version)] = version.id

    def _happened(
        self, action: Action, before: ModelVersion | None, after: ModelVersion | None, by: Actor, at: datetime
    ) -> None:
        subject = f"MODEL#{(after or before).id}"
        changes = audit.as_text(audit.differences(before, after))
        change = Change(event_id=self._new_ulid(), at=at, actor=by, action=action, changes=changes)
        self._events[subject].append(change.after(subject, self._head(subject)))

    def _head(self, subject: str) -> Head:
        events = self._events.get(subject)
        return events[-1].head if events else Head()


def _name(metadata: Metadata) -> tuple[str | None, ...]:
    return (metadata.project_id, metadata.project_name, metadata.name)


def _claim(rm_id: str, metadata: Metadata) -> tuple[object, ...]:
    return (rm_id, metadata.version, metadata.precision)


def matches(version: ModelVersion, filters: Filters) -> bool:
    """The rules of Filters, told again in Python."""
    parts = {name: getattr(version, name) or "" for name in ("name", "project_name", "category", "architecture")}
    return all(
        [
            *((getattr(filters, name) or "").casefold() in value.casefold() for name, value in parts.items()),
            *(
                getattr(filters, name) is None
                or getattr(filters, name).casefold() == (getattr(version, name) or "").casefold()
                for name in ("origin", "format")
            ),
            filters.version in (None, version.version),
            filters.precision is None or any(filters.precision.casefold() in one for one in version.precision),
            all(version.tags.get(key) == value for key, value in filters.tags.items()),
            version.is_hidden == (filters.artifact == "external"),
        ]
    )


@dataclass
class MemoryBlobs:
    """Blobs (registry/ports.py); `is_down` makes it fail as a store that is away does.

    `send` stands for S3, where clients bring bytes with the requests that were made here.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    is_down: bool = False
    owners: dict[str, str] = field(default_factory=dict)
    composites: dict[str, str] = field(default_factory=dict)
    in_parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    written_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    reads: int = 0

    def ping(self) -> None:
        if self.is_down:
            raise Unavailable("The bucket does not answer.")

    def put(self, key: str, body: BinaryIO, size: int, sha256: str, media_type: str, model_id: str) -> str:
        self.ping()
        content = body.read()
        if key in self.objects or len(content) != size:
            raise Unavailable("The artifact could not be stored: nothing was registered, try again.")
        self.objects[key] = content
        self.owners[key] = model_id
        return "1"

    def pour(self, key: str, chunks: Iterable[bytes], media_type: str, model_id: str) -> Poured:
        content = b"".join(chunks)
        digest = None
        if len(content) > PART_BYTES:
            digest = composite_digest(parts_of(content))
        version_id = self.put(key, io.BytesIO(content), len(content), "", media_type, model_id)
        if digest:
            self.composites[key] = digest
        return Poured(len(content), hashlib.sha256(content).hexdigest(), digest, version_id)

    def discard(self, key: str, version_id: str) -> None:
        if not self.is_down:
            self.objects.pop(key, None)

    def remove(self, key: str) -> None:
        self.discard(key, "1")

    def download_url(self, file: File) -> str:
        return f"memory:{file.key}"

    def put_request(self, upload: Upload) -> SignedRequest:
        headers = {"x-amz-checksum-sha256": in_base64(upload.sha256 or ""), "owner": upload.draft.id}
        return SignedRequest(f"memory:{upload.key}", headers)

    def part_request(self, upload: Upload, number: int, digest: str) -> SignedRequest:
        return SignedRequest(f"memory:{upload.multipart_id}#{number}", {"x-amz-checksum-sha256": digest})

    def send(self, request: SignedRequest, content: bytes) -> int:
        """The status that S3 answers."""
        if digest_of(content) != request.headers["x-amz-checksum-sha256"]:
            return 400
        place, _, number = request.url.removeprefix("memory:").partition("#")
        if number and place not in self.in_parts:
            return 404
        if number:
            self.in_parts[place][int(number)] = content
        elif place in self.objects:
            return 412
        else:
            self.objects[place], self.owners[place] = content, request.headers["owner"]
        return 200

    def start_parts(self, upload: Upload) -> str:
        self.ping()
        self.in_parts[f"parts of {upload.key}"] = {}
        self.owners[upload.key] = upload.draft.id
        return f"parts of {upload.key}"

    def parts(self, upload: Upload) -> list[Part] | None:
        self.ping()
        parts = self.in_parts.get(upload.multipart_id or "")
        if parts is None:
            return None
        return [
            Part(number=number, size=len(content), etag=etag_of(content), digest=digest_of(content))
            for number, content in sorted(parts.items())
        ]

    def join(self, upload: Upload, parts: Sequence[Part]) -> None:
        self.ping()
        sent = self.in_parts.get(upload.multipart_id or "")
        if sent is not None and upload.key not in self.objects:
            self.composites[upload.key] = composite_digest(parts)
            self.objects[upload.key] = b"".join(sent[part.number] for part in sorted(parts, key=lambda one: one.number))
        self.in_parts.pop(upload.multipart_id or "", None)

    def drop_parts(self, upload: Upload) -> None:
        self.ping()
        self.in_parts.pop(upload.multipart_id or "", None)

    def stored(self, key: str) -> StoredObject | None:
        self.ping()
        content = self.objects.get(key)
        if content is None:
            return None
        digest = self.composites.get(key) or digest_of(content)
        return StoredObject(size=len(content), digest=digest, version_id="1", model_id=self.owners.get(key))

    def opened(self, key: str, size: int) -> BinaryIO:
        blobs = self

        class Counted(io.BytesIO):
            def read(self, count: int | None = -1) -> bytes:
                blobs.ping()
                blobs.reads += 1
                return super().read(count)

        if key not in self.objects:
            raise Unavailable("The object has gone meanwhile: try again, and learn why.")
        return Counted(self.objects[key])

    def written_before(self, at: datetime, limit: int, after: str) -> tuple[list[str], str | None]:
        self.ping()
        keys = sorted(key for key in self.objects if key > after)
        old = [key for key in keys[:limit] if self.written_at < at]
        return old, keys[limit - 1] if len(keys) > limit else None


def parts_of(content: bytes) -> list[Part]:
    """As this is cut into parts while it comes."""
    pieces = [content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)]
    return [Part(number=number, etag=etag_of(one), digest=digest_of(one)) for number, one in enumerate(pieces, 1)]


def in_base64(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()


def digest_of(content: bytes) -> str:
    """SHA-256 in base64."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def etag_of(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'  # as S3 does it
