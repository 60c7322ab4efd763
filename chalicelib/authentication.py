"""Who asks: from the Authorization header to an Actor, with what they may do.

Bearer and Basic carry the same token, so that a base URL with credentials in it works as well as a header: any user
name, the token as password. Tokens are remembered for half a minute, unknown ones too; so a revoked one dies within a
minute, and a request mostly costs no call for its token.
"""

from __future__ import annotations

import base64
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib.registry.access import Actor
from chalicelib.registry.errors import Unauthenticated
from chalicelib.registry.tokens import USE_NOTED_EVERY, digest_of, id_in, is_text_of

if TYPE_CHECKING:
    from chalicelib.registry.ports import Tokens
    from chalicelib.registry.tokens import StoredToken

REMEMBERED_SECONDS = 30
MAX_REMEMBERED = 1_000
CHALLENGE = 'Bearer realm="model-registry", Basic realm="model-registry", charset="UTF-8"'
HOW = (
    "Send a token: `Authorization: Bearer mr_...`, or HTTP Basic with any user name and the token as password"
    " (https://user:mr_...@host)."
)


class Authentication:
    """Knows the tokens of this container. The clocks are arguments so that tests need no waiting."""

    def __init__(
        self, tokens: Tokens, clock: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._monotonic = monotonic
        self._remembered: OrderedDict[str, tuple[float, StoredToken | None]] = OrderedDict()

    def __call__(self, header: str | None) -> Actor:
        """The actor of this Authorization header. Raises Unauthenticated, saying what would be right."""
        text = token_in(header)
        token_id = id_in(text)
        if token_id is None:
            raise Unauthenticated(f"The credentials are no token of this registry, or a part of one is missing. {HOW}")
        stored = self._find(token_id)
        # The digest of an unknown token is made too, so that the time tells little.
        if not is_text_of(text, stored.digest if stored else digest_of("")) or stored is None:
            raise Unauthenticated("The token is not known here: it is mistyped, or of another registry.")
        token, now = stored.token, self._clock()
        if (state := token.state(now)) != "active":
            raise Unauthenticated(f"The token {token.id} is {state}: ask an admin for a new one.")
        self._note_use(stored, now)
        return Actor(kind="token", name=token.name, token_id=token.id, role=token.access.role, access=token.access)

    def _find(self, token_id: str) -> StoredToken | None:
        known = self._remembered.get(token_id)
        if known and self._monotonic() < known[0]:
            return known[1]
        return self._remember(token_id, self._tokens.find(token_id))

    def _remember(self, token_id: str, stored: StoredToken | None) -> StoredToken | None:
        self._remembered[token_id] = (self._monotonic() + REMEMBERED_SECONDS, stored)
        self._remembered.move_to_end(token_id)
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return stored

    def _note_use(self, stored: StoredToken, now: datetime) -> None:
        """At most hourly. The memory is told, so that a failing store is not asked each time; it lasts no longer."""
        if stored.last_used_at is None or now - stored.last_used_at >= USE_NOTED_EVERY:
            self._tokens.note_use(stored.token.id, now)
            until, _ = self._remembered[stored.token.id]
            self._remembered[stored.token.id] = (until, stored.model_copy(update={"last_used_at": now}))


def token_in(header: str | None) -> str:
    """The token as it was sent. Raises Unauthenticated without one."""
    if not header:
        raise Unauthenticated(f"This needs a token. {HOW}")
    scheme, _, credentials = header.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic":
            return _password_in(credentials.strip())
    raise Unauthenticated(f"The Authorization header has a scheme that is not known here. {HOW}")


def _password_in(credentials: str) -> str:
    """The password; the user name may be anything, in any encoding."""
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2].decode()
    except ValueError as exc:  # binascii.Error and UnicodeDecodeError are
        raise Unauthenticated(f"The Basic credentials are not base64 of user:token. {HOW}") from exc
