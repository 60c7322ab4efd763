"""What the caller may be told. Codes are stable API; texts are for people.

    RegistryError
    ├── InvalidInput            a value breaks a rule; `field` names it
    │   ├── UnsupportedPrecision
    │   └── InvalidArchive      the bytes are not an archive that may be stored
    ├── UploadIncomplete        parts are missing or wrong; `parts` are the ones to send again
    ├── UploadClosed            the upload has ended; `state` says how
    ├── TooLarge                over a limit; the text says the limit
    ├── Unauthenticated         who asks is not known; a valid token is needed
    ├── Forbidden               who asks may not do this; the text says what is missing
    ├── NotFound                not there, or not for the caller to know
    ├── Conflict                the stored state forbids this; `holder` is the id that stands in the way, `upload_id`
    │                           the upload by which it does, if it is no model yet
    ├── AlreadyExists           the name is taken
    ├── NotHere                 the bytes of this are not kept here
    ├── StaleRevision           the caller's precondition no longer holds; reading again helps
    ├── InProgress              the very same request is being worked on; repeating it helps
    ├── KeyReused               the key of this request was another request's; `field` names the header
    └── Unavailable             try again later; nothing was changed that is not whole
        ├── OutcomeUnknown      the change may or may not have been made
        └── NotConfigured       trying again does not help; the operator must set something

The domain and the store raise these; each surface owns one table from code to status and body.
"""

from collections.abc import Sequence

MAX_SHOWN_CHARACTERS = 100
# Said in several places, and to who may not know that it exists: in the same words.
NO_SUCH_MODEL = "Model not found."
NO_SUCH_NAME = "There is no registered model of this name."
NO_SUCH_TOKEN = "There is no such token."  # noqa: S105 - a text
NO_SUCH_IMPORT = "There is no such import; it is forgotten after 7 days."
NO_SUCH_UPLOAD = "There is no such upload; it is forgotten 30 days after its end."


def shown(foreign: str) -> str:
    """Text from outside as an error may repeat it: printable and short."""
    text = "".join(character if character.isprintable() else "?" for character in foreign[:MAX_SHOWN_CHARACTERS])
    return text if len(foreign) <= MAX_SHOWN_CHARACTERS else f"{text}..."


class RegistryError(Exception):
    """Something the caller may be told."""

    code = "internal"


class InvalidInput(RegistryError):
    code = "invalid_input"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class UnsupportedPrecision(InvalidInput):
    code = "unsupported_precision"

    def __init__(self, precision: str) -> None:
        super().__init__("precision", f"{shown(precision)} is not a supported precision.")


class InvalidArchive(InvalidInput):
    code = "invalid_archive"

    def __init__(self, reason: str) -> None:
        super().__init__("file", reason)


class UploadIncomplete(RegistryError):
    code = "upload_incomplete"

    def __init__(self, message: str, parts: Sequence[int]) -> None:
        super().__init__(message)
        self.parts = parts


class UploadClosed(RegistryError):
    code = "upload_closed"

    def __init__(self, state: str, reason: str | None = None) -> None:
        super().__init__(f"The upload is {state}{f' ({reason})' if reason else ''}: start a new one.")
        self.state = state


class TooLarge(RegistryError):
    code = "too_large"


class Unauthenticated(RegistryError):
    code = "unauthenticated"


class Forbidden(RegistryError):
    code = "forbidden"


class NotFound(RegistryError):
    code = "not_found"


class Conflict(RegistryError):
    code = "conflict"

    def __init__(self, holder: str, upload_id: str | None = None) -> None:
        super().__init__(f"The requested action could not be completed due to a conflict with model '{holder}'.")
        self.holder = holder
        self.upload_id = upload_id


class AlreadyExists(RegistryError):
    """What is to be made is there already, under a name that only one may have."""

    code = "exists"


class NotHere(RegistryError):
    """It is in the catalogue, but its bytes are kept elsewhere, or nowhere."""

    code = "not_here"


class StaleRevision(RegistryError):
    code = "stale_revision"

    def __init__(self, current: int) -> None:
        super().__init__(f"It is at revision {current}: read it again, then repeat the change.")
        self.current = current


class InProgress(RegistryError):
    code = "in_progress"
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("This request is being worked on: repeat it in a moment, with the same Idempotency-Key.")


class KeyReused(RegistryError):
    code = "idempotency_key_reused"
    field = "Idempotency-Key"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key came with another content before: repeat a request as it was, or take a new key."
        )


class Unavailable(RegistryError):
    code = "unavailable"

    def __init__(self, message: str, retry_after_seconds: int = 2) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class OutcomeUnknown(Unavailable):
    """An answer of the store was lost for good: whoever acts on this must allow for both."""

    code = "outcome_unknown"


class NotConfigured(Unavailable):
    code = "not_configured"
