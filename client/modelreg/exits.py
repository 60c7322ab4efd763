"""How a command ends: one table from errors to exit codes, and what a person is told with each.

`EXITS` is the table, for the program, `modelreg --help` and docs/command.md. The hints of the library speak of
Python; the ones here say what to type.
"""

from typing import NamedTuple

from modelreg.errors import (
    Ambiguous,
    BrokenTrail,
    Conflict,
    ConnectionFailed,
    Corrupt,
    Forbidden,
    InProgress,
    InvalidInput,
    LocalError,
    NotARegistry,
    NotFound,
    RegistryError,
    Sent,
    SourceChanged,
    StaleRevision,
    TooLarge,
    Unauthorized,
    Unavailable,
    UploadClosed,
    UploadIncomplete,
)


class Exit(NamedTuple):
    """An exit code, what it means, and the errors that end with it."""

    code: int
    meaning: str
    errors: tuple[type[RegistryError], ...] = ()


OK, UNEXPECTED, USAGE, LOCAL, NO, INTERRUPTED = 0, 1, 2, 8, 10, 130

EXITS = (
    Exit(OK, "Done."),
    Exit(UNEXPECTED, "Something unexpected: a bug here or in the registry."),
    Exit(USAGE, "The command cannot be understood, or does not say where the registry is."),
    Exit(3, "Not found, or more than one fits.", (NotFound, Ambiguous)),
    Exit(4, "Conflict: taken already, changed by somebody else, or closed.", (Conflict, StaleRevision, UploadClosed)),
    Exit(5, "Refused: a value, the archive or its size breaks a rule.", (InvalidInput, TooLarge)),
    Exit(6, "Not allowed: the token is missing, unknown or may not do this.", (Unauthorized, Forbidden)),
    Exit(
        7,
        "The registry cannot be reached or is busy: the same command may work later.",
        (Unavailable, ConnectionFailed, NotARegistry, UploadIncomplete),
    ),
    Exit(
        LOCAL,
        "A problem here: disk, permission, or files that change while they are read.",
        (LocalError, SourceChanged),
    ),
    Exit(9, "The bytes that arrived are not those that were sent.", (Corrupt,)),
    Exit(
        NO, "The answer is no: `can` says refused, a doctor leaves something wrong, or a model could not be imported."
    ),
    Exit(11, "The audit trail is not as it was written.", (BrokenTrail,)),
    Exit(INTERRUPTED, "Interrupted with Ctrl-C."),
)


class Misused(Exception):
    """The command says too little, too much, or what cannot be done here; `hint` says what to type."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Interrupted(Exception):
    """Ctrl-C; `hint` says what becomes of what was begun."""

    def __init__(self, hint: str = "") -> None:
        super().__init__("Interrupted.")
        self.hint = hint


_HINTS: dict[type[RegistryError], str] = {
    NotFound: "`modelreg ls` and `modelreg search` show what there is.",
    Conflict: "Push it under another version, or remove the model in the way: `modelreg rm ID`.",
    Ambiguous: "Choose one with --precision, or by its id with --id.",
    StaleRevision: "Look at it again with `modelreg show --id ID`, then repeat the change with the new revision.",
    Unauthorized: "Store a valid token with `modelreg login`, or set MODELREG_TOKEN.",
    InProgress: "Type the same command again in a moment: it then gets the outcome of the first one.",
    UploadClosed: "Start again: push the model once more.",
    UploadIncomplete: "Push the model again: what has arrived is not sent twice.",
    SourceChanged: "Nothing was registered. Push it again once nothing writes to it any more.",
    NotARegistry: "Check the URL with `modelreg config`: it is the registry's base URL, to which /models is added.",
}
_TOKEN_HINTS = {
    Sent.NOTHING: "No token was sent: store one with `modelreg login`, or set MODELREG_TOKEN.",
    Sent.DAMAGED: "The token's checksum is wrong: copy it once more to `modelreg login`, or to MODELREG_TOKEN.",
    Sent.WHOLE: "`modelreg config` tells where the token comes from; another one is stored with `modelreg login`.",
}


class Report(NamedTuple):
    """What is said when a command fails."""

    exit_code: int
    code: str
    message: str
    hint: str


def report_of(error: RegistryError) -> Report:
    """The exit code, and the words. The sentence is the server's where it spoke."""
    if error.code == "no_url":
        return Report(USAGE, error.code, str(error), error.hint)
    exit_code = next((row.code for row in EXITS if isinstance(error, row.errors)), UNEXPECTED)
    return Report(exit_code, error.code, str(error), _hint(error))


def _hint(error: RegistryError) -> str:
    if isinstance(error, Conflict) and error.upload_id:
        return (
            "It is being uploaded, or the upload broke off. Push the very same files again to go on with it,"
            f" or drop it with `modelreg uploads abort {error.upload_id}`."
        )
    if isinstance(error, Unauthorized) and error.sent:
        return _TOKEN_HINTS[error.sent]
    # A hint that was written for this one error says more than the table.
    if error.hint != type(error).hint:
        return error.hint
    return next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), error.hint)


def epilog() -> str:
    """The table as `modelreg --help` shows it; the form feed keeps the lines as they are."""
    rows = "\n".join(f"{row.code:>5}  {row.meaning}" for row in EXITS)
    return f"\b\nExit codes:\n{rows}"
