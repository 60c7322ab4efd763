"""What items hold, read so that nothing in them can do harm: each is there, or is not, or cannot be read.

The texts of problems name attributes and fields, and repeat nothing of what they hold.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeGuard, TypeVar

from pydantic import BaseModel, ValidationError

from chalicelib.geti.states import Item, Memory, Run
from chalicelib.registry.models import Head, Metadata, ModelVersion, QualifiedName
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.registry.tokens import Token
from chalicelib.registry.uploads import Upload, UploadState
from chalicelib.store.doctor.views import Key, View, in_events, in_registry
from chalicelib.store.geti_items import geti_key, model_row_key
from chalicelib.store.keys import from_text, model_key, name_key, registered_model_key, token_key, upload_key
from chalicelib.store.schema import UploadItem
from chalicelib.store.spilling import piece_key, unpacked
from chalicelib.store.tracking_items import KINDS
from chalicelib.store.transactions import RawItem

MAX_WHOLE = 10**12 - 1  # the digits of an event's key
MAX_PLACES = 5
MAX_TAG_PIECES = 10
BROKEN_TAGS = "its tags, which are beside it, are not those that it names"
M = TypeVar("M", bound=BaseModel)
S = TypeVar("S", covariant=True)


class Unreadable(Exception):
    """What an item holds is not what belongs there; the text names the place."""


@dataclass(frozen=True)
class Stored(Generic[S]):
    """What stands at a key: something (`content`), nothing, or what cannot be read (`problem`).

    `is_lost`: nothing is there, although there are events of it, and nothing with events is ever removed.
    """

    key: Key
    raw: RawItem | None = None
    content: S | None = None
    problem: str | None = None
    is_lost: bool = False


@dataclass(frozen=True)
class ModelContent:
    """A version, or its id held by an upload, or neither: a tombstone."""

    head: Head
    event_id: str
    version: ModelVersion | None = None
    upload_id: str | None = None
    upload_key: str | None = None


@dataclass(frozen=True)
class NameContent:
    head: Head
    model: RegisteredModel
    counter: int


@dataclass(frozen=True)
class UploadContent:
    """`listed_at` is when it would have ended without any activity: the sweep's row begins there."""

    upload: Upload
    listed_at: datetime

    @property
    def is_open(self) -> bool:
        return self.upload.state == UploadState.OPEN


@dataclass(frozen=True)
class TokenContent:
    head: Head
    token: Token


@dataclass(frozen=True)
class TrackedContent:
    """An experiment, a run or a logged model."""

    head: Head


@dataclass(frozen=True)
class RunContent:
    """The run of a Geti server. `head` is that of the server's trail, which has no event before the first run ended."""

    head: Head
    run: Run


# Who stands where


def model_at(view: View, model_id: str) -> Stored[ModelContent]:
    found = _stored(view, in_registry(model_key(model_id)), _model)
    return _or_lost(view, _with_its_tags(view, found), model_key(model_id))


def token_at(view: View, token_id: str) -> Stored[TokenContent]:
    return _or_lost(view, _stored(view, in_registry(token_key(token_id)), _token), token_key(token_id))


def is_name(target: object) -> TypeGuard[str]:
    """Whether what leads to a registered model leads to where one can be."""
    return isinstance(target, str) and target.startswith("NAME#")


def upload_at(view: View, upload_id: str) -> Stored[UploadContent]:
    return _stored(view, in_registry(upload_key(upload_id)), _upload)


def run_at(view: View, server_id: str) -> Stored[RunContent]:
    return _stored(view, in_registry(geti_key(server_id)), _run)


def geti_model_at(view: View, key: Key) -> Stored[Item]:
    return _stored(view, key, _geti_model)


def name_at(view: View, pk: str) -> Stored[NameContent]:
    found = _stored(view, in_registry(pk), _name)
    if found.raw is None or found.content is None or "tag_pieces" not in found.raw:
        return found
    try:
        tags = _tags_beside(view, found.key, found.raw)
    except (Unreadable, ValueError) as exc:
        return Stored(found.key, found.raw, problem=str(exc) if isinstance(exc, Unreadable) else BROKEN_TAGS)
    model = found.content.model.model_copy(update={"tags": tags})
    return replace(found, content=replace(found.content, model=model))


def tombstone_at(view: View, rm_id: str) -> Head | None:
    """The last event of a registered model that was deleted; None if it was not."""
    raw = view.item(in_registry(registered_model_key(rm_id), "NAME"))
    if raw is None or raw.get("deleted") != {"BOOL": True}:
        return None
    try:
        return _head(raw)
    except Unreadable:
        return None


def tracked_at(view: View, key: Key) -> Stored[TrackedContent]:
    return _stored(view, key, _tracked)


def registered_model(view: View, rm_id: str) -> Stored[NameContent]:
    """The registered model of this id, by its pointer, or else by the name that its first event tells."""
    subject = registered_model_key(rm_id)
    found = _pointed_at(view, in_registry(subject, "NAME"))
    if _is_of(found, rm_id):
        return found
    if tombstone_at(view, rm_id):
        return Stored(found.key)
    first = view.item(in_events(subject, 1))
    if first is None:
        return Stored(found.key)
    by_trail = _named_by(view, first)
    return by_trail if by_trail and _is_of(by_trail, rm_id) else Stored(found.key, is_lost=True)


def name_key_of(name: QualifiedName | RegisteredModel) -> str:
    """Where the registered model of this name and project is kept."""
    # Not validated: a name that was stored may break a rule that came later.
    return name_key(
        Metadata.model_construct(
            name=name.name, version="any", project_id=name.project_id, project_name=name.project_name
        )
    )


def _pointed_at(view: View, pointer: Key) -> Stored[NameContent]:
    """What a pointer leads to, if that can be a registered model."""
    raw = view.item(pointer)
    target = (raw or {}).get("target", {}).get("S")
    return name_at(view, target) if is_name(target) else Stored(pointer)


def _is_of(found: Stored[NameContent], rm_id: str) -> bool:
    return found.problem is not None or (found.content is not None and found.content.model.rm_id == rm_id)


def _named_by(view: View, event: RawItem) -> Stored[NameContent] | None:
    """What stands under the name that the first event of a registered model tells."""
    try:
        changes = json.loads(text(event, "changes"))
        fields = {field: changes[field][1] for field in ("name", "project_id", "project_name") if field in changes}
        return name_at(view, name_key_of(QualifiedName.model_validate(fields)))
    except (Unreadable, ValueError, TypeError, LookupError, RecursionError):
        return None


def _with_its_tags(view: View, found: Stored[ModelContent]) -> Stored[ModelContent]:
    """A version whose tags are beside it, whole; if they are not all there, it cannot be read."""
    if found.raw is None or found.content is None or found.content.version is None or "tag_pieces" not in found.raw:
        return found
    try:
        tags = _tags_beside(view, found.key, found.raw)
        version = found.content.version.model_copy(update={"tags": tags})
    except (Unreadable, ValueError) as exc:
        return Stored(found.key, found.raw, problem=str(exc) if isinstance(exc, Unreadable) else BROKEN_TAGS)
    return replace(found, content=replace(found.content, version=version))


def _tags_beside(view: View, key: Key, raw: RawItem) -> dict[str, str]:
    count, seq = whole(raw, "tag_pieces"), whole(raw, "tags_seq")
    if not 0 < count <= MAX_TAG_PIECES:
        raise Unreadable("its tag_pieces is out of bounds")
    pieces = [view.item(in_registry(key.pk, piece_key(number))) for number in range(count)]
    if any(piece is None or whole(piece, "seq") != seq for piece in pieces):
        raise Unreadable(BROKEN_TAGS)
    contents: list[object] = [(piece or {}).get("content", {}).get("B") for piece in pieces]
    if not all(isinstance(content, bytes) for content in contents):
        raise Unreadable(BROKEN_TAGS)
    return unpacked([content for content in contents if isinstance(content, bytes)])


def _stored(view: View, key: Key, content_of: Callable[[Key, RawItem], S]) -> Stored[S]:
    raw = view.item(key)
    if raw is None:
        return Stored(key)
    try:
        return Stored(key, raw, content_of(key, raw))
    except Unreadable as exc:
        return Stored(key, raw, problem=str(exc))


def _or_lost(view: View, found: Stored[S], subject: str) -> Stored[S]:
    if found.raw is None and view.item(in_events(subject, 1)) is not None:
        return Stored(found.key, is_lost=True)
    return found


# What they hold. Each raises Unreadable.


def _model(key: Key, raw: RawItem) -> ModelContent:
    head, event_id = _head(raw), text(raw, "event_id")
    states = raw.keys() & {"record", "upload", "deleted"}
    if states == {"record"}:
        version = _parsed(ModelVersion, text(raw, "record"))
        if model_key(version.id) != key.pk:
            raise Unreadable("its record is that of another id")
        return ModelContent(head, event_id, version=version)
    if states == {"upload"}:
        return ModelContent(head, event_id, upload_id=text(raw, "upload"), upload_key=text(raw, "upload_key"))
    if states == {"deleted"} and raw["deleted"] == {"BOOL": True}:
        return ModelContent(head, event_id)
    raise Unreadable("it is not one of these: a version, a hold of an upload, a tombstone")


def _name(key: Key, raw: RawItem) -> NameContent:
    model = _parsed(RegisteredModel, text(raw, "record"))
    if model.rm_id != text(raw, "rm_id"):
        raise Unreadable("its record is that of another id")
    if name_key_of(model) != key.pk:
        raise Unreadable("its record is that of another name")
    if "touched_at" in raw:
        model = model.model_copy(update={"changed_at": max(model.last_changed_at, _time(raw, "touched_at"))})
    return NameContent(_head(raw), model, whole(raw, "counter"))


def _tracked(key: Key, raw: RawItem) -> TrackedContent:
    kind = KINDS[key.pk.partition("#")[0] + "#"]
    tracked = _parsed(kind, text(raw, "record"))
    if tracked.subject != key.pk:
        raise Unreadable("its record is that of another id")
    return TrackedContent(_head(raw))


def _upload(key: Key, raw: RawItem) -> UploadContent:
    listed_at = _parsed(Upload, text(raw, "record")).expires_at
    state, expires_at = text(raw, "state"), text(raw, "expires_at")
    try:
        upload = UploadItem(key.pk, key.sk, record=text(raw, "record"), state=state, expires_at=expires_at)
        content = UploadContent(upload.stored_upload(), listed_at)
    except ValueError as exc:
        raise Unreadable("its state or its expires_at is none") from exc
    if upload_key(content.upload.id) != key.pk:
        raise Unreadable("its record is that of another id")
    return content


def _token(key: Key, raw: RawItem) -> TokenContent:
    token = _parsed(Token, text(raw, "record"))
    text(raw, "secret_digest")
    if token_key(token.id) != key.pk:
        raise Unreadable("its record is that of another id")
    return TokenContent(_head(raw), token)


def _run(key: Key, raw: RawItem) -> RunContent:
    run = _parsed(Run, text(raw, "record"))
    if run.id != text(raw, "run_id"):
        raise Unreadable("its record is that of another run")
    _parsed(Memory, text(raw, "memory"))
    for counter in ("fence", "outstanding", "imported", "failed"):
        whole(raw, counter)
    return RunContent(_head(raw) if raw.keys() & {"seq", "digest"} else Head(), run)


def _geti_model(key: Key, raw: RawItem) -> Item:
    texts = ["project_id", "group_id", "base_model_id", "model_id", "state"]
    texts += [name for name in ("why", "run_id", "origin_state") if name in raw]
    numbers = ["attempts", *(["misses"] if "misses" in raw else [])]
    fields: dict[str, Any] = {name: text(raw, name) for name in texts} | {name: whole(raw, name) for name in numbers}
    if "due_at" in raw:
        fields["due_at"] = _time(raw, "due_at").isoformat()
    item = _parsed(Item, json.dumps(fields))
    if model_row_key(item.project_id, item.model_id) != key.sk:
        raise Unreadable("it is that of another model")
    return item


def _head(raw: RawItem) -> Head:
    seq = whole(raw, "seq")
    if not seq:
        raise Unreadable("its seq is 0, which is no event")
    return Head(seq=seq, digest=text(raw, "digest"))


def text(raw: RawItem, name: str) -> str:
    value: Any = raw.get(name, {}).get("S")
    if not isinstance(value, str):
        raise Unreadable(f"its {name} is no text")
    return value


def optional_text(raw: RawItem, name: str) -> str | None:
    return text(raw, name) if name in raw else None


def whole(raw: RawItem, name: str) -> int:
    """A number of events or versions."""
    value: Any = raw.get(name, {}).get("N")
    try:
        number = int(value)
    except (TypeError, ValueError) as exc:
        raise Unreadable(f"its {name} is no whole number") from exc
    if not 0 <= number <= MAX_WHOLE:
        raise Unreadable(f"its {name} is out of bounds")
    return number


def _time(raw: RawItem, name: str) -> datetime:
    try:
        return from_text(text(raw, name))
    except ValueError as exc:
        raise Unreadable(f"its {name} is no time") from exc


def _parsed(model: type[M], record: str) -> M:
    try:
        return model.model_validate_json(record)
    except ValidationError as exc:
        # Only our own names of fields are told: whatever else a record holds stays in it.
        found = (
            error["loc"][:1] for error in exc.errors(include_url=False, include_input=False, include_context=False)
        )
        places = dict.fromkeys(_place(model, loc[0]) if loc else "all of it" for loc in found)
        raise Unreadable(f"its record is wrong at {', '.join(list(places)[:MAX_PLACES])}") from exc


def _place(model: type[BaseModel], name: int | str) -> str:
    return str(name) if name in model.model_fields else "a field that does not belong there"
