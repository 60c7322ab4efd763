"""What a Geti server may answer instead, by what to do about it.

    GetiError
    ├── GetiUnauthorized    the token is bad, expired, revoked or of another organization: stop, an operator must act
    ├── GetiMisconfigured   what the operator set cannot be right; trying again does not help
    │   └── NotGeti         what answers there is no Geti API
    ├── GetiForbidden       the token's user may not see this project: leave it out
    ├── GetiGone            a typed 404: Geti itself says that it is not there (any more); `code` is Geti's
    ├── GetiNoSuchRoute     this version of Geti does not have the route
    ├── GetiRefused         Geti says no to this request, and would again
    └── GetiBusy            it may work later: throttled, full, unreachable, cut off, out of time

Each text is for an operator: what was asked (never the token), what was answered, what would help.
"""

from chalicelib.registry.errors import shown


class GetiError(Exception):
    """Something went wrong with Geti."""

    code = "geti_error"


class GetiUnauthorized(GetiError):
    code = "geti_unauthorized"


class GetiMisconfigured(GetiError):
    code = "geti_misconfigured"


class NotGeti(GetiMisconfigured):
    code = "not_geti"


class GetiForbidden(GetiError):
    code = "geti_forbidden"


class GetiGone(GetiError):
    code = "geti_gone"

    def __init__(self, message: str, geti_code: str) -> None:
        super().__init__(message)
        self.geti_code = shown(geti_code)


class GetiNoSuchRoute(GetiError):
    code = "geti_no_such_route"


class GetiRefused(GetiError):
    code = "geti_refused"


class GetiBusy(GetiError):
    code = "geti_busy"

    def __init__(self, message: str, retry_after_seconds: float | None = None, is_lasting: bool = False) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds  # as Geti asks for
        self.is_lasting = is_lasting  # not over within minutes
