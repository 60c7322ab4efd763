"""`Idempotency-Key`: a POST that is repeated because its answer was lost is done once, and answered again.

A view says what is asked for, what does it, and how it is answered another time:

    intent = intent_of(imports, lambda: stated.model_dump(mode="json"))
    return intent.answer(lambda: begun(stated), again=answer_of)

Who has no key pays nothing for it. With one, it costs two calls: a row says that the request runs, then what it came
to. An answer is made anew each time, so that nothing of it is kept and its URLs are fresh. What fails is forgotten, and
judged anew when it is repeated; but for a conflict, which is an outcome like another.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chalice.app import Request, Response
from pydantic import Field

from chalicelib.forms import Unprocessable, problem
from chalicelib.registry.errors import Conflict, InvalidInput
from chalicelib.registry.repetition import Deadline, Outcome, id_for, request_digest
from chalicelib.surface import Shape, Surface
from chalicelib.wiring import outcomes

HEADER = "Idempotency-Key"
KEY = r"^[!-~]{1,255}$"
ANONYMOUS = "anonymous"
Content = Callable[[], Mapping[str, Any]]


class RepeatHeaders(Shape):
    """What tells a repetition of a request from another request."""

    idempotency_key: str | None = Field(
        None,
        alias=HEADER,
        pattern=KEY,
        description="A word of your own for this request, as a UUID. Sent again with it and the same content within"
        " 24 hours, the request is not done again but answered as the first time.",
    )


@dataclass(frozen=True)
class Made:
    """What a request made, by its id, and the answer that says so."""

    id: str
    response: Response


@dataclass(frozen=True)
class Intent:
    """One request, however often it is sent. Without a key each time is another request."""

    key: tuple[str, ...] = ()
    content: Mapping[str, Any] | None = None
    deadline: Deadline | None = None

    @property
    def digest(self) -> str | None:
        return None if self.content is None else request_digest(self.key, self.content)

    def new_id(self) -> str:
        """An id for what is made, if its caller states none: the same for each repetition."""
        return id_for(self.digest) if self.digest else str(uuid.uuid4())

    def answer(self, do: Callable[[], Made], again: Callable[[str], Response] | None = None) -> Response:
        """The answer of `do`; from its second time on that of `again`, which gets the id of what was made.

        Without `again`, doing it another time changes nothing, and that is how it is answered.
        """
        if self.content is None:
            return do().response
        first: list[Response] = []

        def run() -> Outcome:
            try:
                made = do()
            except Conflict as exc:
                return Outcome.of_conflict(exc)
            first.append(made.response)
            return Outcome(status=made.response.status_code, id=made.id)

        outcome = outcomes().once(self.key, self.content, run, self.deadline)
        if first:
            return first[0]
        if outcome.conflict:
            raise outcome.conflict
        return again(outcome.id or "") if again else do().response


def intent_of(surface: Surface, content: Content) -> Intent:
    """What the current request intends. `content` are its fields, parsed, and digests of its files.

    From now on its actor says by which request he does what he does. Raises Unprocessable for a key that is none.
    """
    stated = _stated_key(surface)
    if stated is None:
        return Intent()
    request: Request = surface.current_request
    path = request.path.format(**(request.uri_params or {}))
    caller = surface.actor().token_id or ANONYMOUS
    intent = Intent((caller, request.method, path, stated), content(), surface.lambda_context)
    surface.acting(idempotency=intent.digest)
    return intent


def refuse_key(surface: Surface, why: str) -> None:
    """Raises InvalidInput, saying why, if the request has a key that its operation cannot honour."""
    request: Request = surface.current_request
    if request.headers.get(HEADER) is not None:
        raise InvalidInput(HEADER, f"{request.method} {request.path} takes no {HEADER}: {why}")


def _stated_key(surface: Surface) -> str | None:
    stated = surface.current_request.headers.get(HEADER)
    if stated is not None and not re.fullmatch(KEY, stated):
        message = "expected 1 to 255 visible ASCII characters without spaces, best a new UUID for each request"
        raise Unprocessable([problem(["header", HEADER], message, "value_error")])
    return stated
