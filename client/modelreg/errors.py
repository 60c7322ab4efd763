"""What can go wrong, as classes; each says what to do next.

    RegistryError               `code` is stable, str() is in the server's words where it spoke, `hint` says what to do
    ├── InvalidInput            a value breaks a rule; `field` names it where it is known
    │   ├── InvalidArchive      the bytes are not an archive that may be stored
    │   └── IdempotencyKeyReused  the key of this request was another request's
    ├── NotFound
    ├── Conflict                `holder` is the model in the way; `upload_id` if that one is still being uploaded
    ├── Ambiguous               several models fit; `candidates` lists them
    ├── StaleRevision           somebody changed it since it was read
    ├── TooLarge
    ├── Unauthorized            no token, or one that does not count (any more); `sent` says what was sent
    ├── Forbidden               the token may not do this; the text says what it would take
    ├── Unavailable             try again later; `retry_after_seconds` where the server said when
    │   ├── Throttled
    │   └── InProgress          the very same request is being worked on
    ├── UploadClosed            the upload takes no more parts; `state` says how it ended
    ├── UploadIncomplete        `parts` are to be sent again
    ├── SourceChanged           the local files changed while they were read
    ├── Corrupt                 the bytes that arrived are not those that were sent
    ├── BrokenTrail             the audit trail is not as it was written; the text names the first wrong event
    ├── ConnectionFailed        the server cannot be reached
    ├── NotARegistry            something else answered
    └── LocalError              this machine: disk full, permission, a file in use

No text, repr or attribute holds a token or a presigned URL.
"""

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelreg.models import Model


class RegistryError(Exception):
    """Something the registry, or the way to it, did not allow."""

    code = "internal"
    hint = "Try again; if it goes on, ask whoever runs the registry to look at its log."

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        if code:
            self.code = code
        if hint:
            self.hint = hint


class InvalidInput(RegistryError):
    code = "invalid_input"
    hint = "Correct the value and try again."

    def __init__(
        self, message: str, *, field: str | None = None, code: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.field = field


class InvalidArchive(InvalidInput):
    code = "invalid_archive"
    hint = "Correct the archive, or register the directory it was made from: it is packed as the registry needs it."


class IdempotencyKeyReused(InvalidInput):
    code = "idempotency_key_reused"
    hint = "Take a new key: a key belongs to one request and its repetitions."


class NotFound(RegistryError):
    code = "not_found"
    hint = "Look at what there is: list() or search()."


class Conflict(RegistryError):
    code = "conflict"
    hint = "Register it under another version, or delete the model that is in the way."

    def __init__(
        self,
        message: str,
        *,
        holder: str | None = None,
        upload_id: str | None = None,
        code: str | None = None,
        hint: str | None = None,
    ) -> None:
        if upload_id and not hint:
            hint = (
                "Somebody is uploading it, or broke off: wait until that is done,"
                f" or drop it with abort_upload({upload_id!r})."
            )
        super().__init__(message, code=code, hint=hint)
        self.holder = holder
        self.upload_id = upload_id


class Ambiguous(RegistryError):
    code = "ambiguous"
    hint = "State the precision, or take one of the candidates by its id."

    def __init__(self, message: str, *, candidates: "Sequence[Model]" = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.candidates = tuple(candidates)


class StaleRevision(RegistryError):
    code = "stale_revision"
    hint = "Read it again, then repeat the change with the new revision."


class TooLarge(RegistryError):
    code = "too_large"
    hint = "Make it smaller, or split it."


class Sent(enum.Enum):
    """What a request carried to say who asks."""

    NOTHING = "no token"
    DAMAGED = "a token whose checksum is wrong"
    WHOLE = "a token"


class Unauthorized(RegistryError):
    code = "unauthenticated"
    hint = "Pass a valid token: Registry(url, token=...)."
    _hints = {
        Sent.NOTHING: "No token was sent: pass one, Registry(url, token=...), or store it with `modelreg login`.",
        Sent.DAMAGED: "The token's checksum is wrong: copy it once more, or store it again with `modelreg login`.",
        Sent.WHOLE: "It is revoked, has expired, or is of another registry: ask an admin for a new one, and store it"
        " with `modelreg login`.",
    }

    def __init__(
        self, message: str, *, sent: Sent | None = None, code: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, code=code, hint=self._hints[sent] if sent else hint)
        self.sent = sent


class Forbidden(RegistryError):
    code = "forbidden"
    hint = "Use a token that may do this, or ask for one."


class Unavailable(RegistryError):
    code = "unavailable"
    hint = "Try again in a while."

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        code: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class Throttled(Unavailable):
    code = "throttled"
    hint = "Too many requests: wait a moment, then go on more slowly."


class InProgress(Unavailable):
    code = "in_progress"
    hint = "Repeat it in a moment, unchanged: it then gets the outcome of the first one."


class UploadClosed(RegistryError):
    code = "upload_closed"
    hint = "Start again: register the model once more."

    def __init__(
        self, message: str, *, state: str | None = None, code: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.state = state


class UploadIncomplete(RegistryError):
    code = "upload_incomplete"
    hint = "Register the model again: what has arrived is not sent twice."

    def __init__(
        self, message: str, *, parts: Sequence[int] = (), code: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.parts = tuple(parts)


class SourceChanged(RegistryError):
    code = "source_changed"
    hint = "Nothing was registered. Register it again once nothing writes to it any more."


class Corrupt(RegistryError):
    code = "corrupt"
    hint = "Try again; if it happens again, something on the way, or a disk, changes bytes."


class BrokenTrail(RegistryError):
    code = "broken_trail"
    hint = "Keep what you have (exports, checkpoints), and ask who could write to the tables: no release does this."


class ConnectionFailed(RegistryError):
    code = "connection_failed"
    hint = "Check the URL, the network and, where there is one, the proxy; then try again."


class NotARegistry(RegistryError):
    code = "not_a_registry"
    hint = "Check the URL: it is the registry's base URL, to which /models is added."


class LocalError(RegistryError):
    code = "local_error"
    hint = "Make room or give permission, then try again."
