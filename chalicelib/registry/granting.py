"""Who gives tokens out and takes them back: admins without limits; the first is made by whoever runs the account."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import StringConstraints

from chalicelib.registry.access import Access, Actor, Decision, decision_on
from chalicelib.registry.audit import Action
from chalicelib.registry.errors import NO_SUCH_TOKEN, InvalidInput, NotFound
from chalicelib.registry.models import Frozen, Name
from chalicelib.registry.tokens import Token, digest_of, new_token_text

if TYPE_CHECKING:
    from chalicelib.registry.access import Deed
    from chalicelib.registry.models import QualifiedName
    from chalicelib.registry.ports import Catalog
    from chalicelib.registry.service import Announce
    from chalicelib.registry.tokens import StoredToken

BOOTSTRAP = Actor(kind="system", name="bootstrap")


class FirstToken(Frozen):
    """What is told of a token that was made elsewhere: its id, whose it is, and the SHA-256 of its text."""

    id: Annotated[str, StringConstraints(pattern="^[0-9A-Z]{26}$")]
    name: Name
    digest: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Granting:
    """Creates and revokes tokens."""

    def __init__(
        self,
        catalog: Catalog,
        clock: Callable[[], datetime],
        new_ulid: Callable[[], str],
        announce: Announce,
    ) -> None:
        self._tokens = catalog.tokens
        self._clock = clock
        self._new_ulid = new_ulid
        self._announce = announce

    def create(self, name: Name, access: Access, expires_at: datetime | None, by: Actor) -> tuple[Token, str]:
        """A new token, and its text, which cannot be had again. Raises Forbidden, InvalidInput and Unavailable."""
        by.access.require_no_limits()
        at = self._clock()
        if expires_at and expires_at <= at:
            raise InvalidInput("expires_at", "expires_at must be in the future.")
        token = Token(
            id=self._new_ulid(), name=name, access=access, created_at=at, created_by=by.name, expires_at=expires_at
        )
        text = new_token_text(token.id)
        self._tokens.add(token, digest_of(text), by)
        self._announce(Action.TOKEN_CREATED, None, token, by)
        return token, text

    def revoke(self, token_id: str, by: Actor) -> None:
        """End a token for good; nothing if it was before. Raises NotFound, Forbidden and Unavailable."""
        by.access.require_no_limits()
        before, after = self._tokens.revoke(token_id, by, self._clock())
        if after is not before:
            self._announce(Action.TOKEN_REVOKED, before, after, by)

    def explain(self, token_id: str, deed: Deed, about: Callable[[], QualifiedName | None], by: Actor) -> Decision:
        """Whether a token may do something, and the rule that decides. Raises NotFound, Forbidden and Unavailable."""
        token = self.kept(token_id, by).token
        if (state := token.state(self._clock())) != "active":
            return Decision(allowed=False, status=401, rule=f"The token is {state}.")
        return decision_on(token.access, deed, about)

    def kept(self, token_id: str, by: Actor) -> StoredToken:
        """A token as it is kept. Raises NotFound and Forbidden."""
        by.access.require_no_limits()
        kept = self._tokens.find(token_id)
        if kept is None:
            raise NotFound(NO_SUCH_TOKEN)
        return kept

    def bootstrap(self, token_id: str, name: Name, digest: str) -> Token:
        """The first admin token, of which only the digest is known here; the same again, if its answer was lost.

        Raises Forbidden if there is an admin without limits whose token works.
        """
        at = self._clock()
        token = Token(id=token_id, name=name, access=Access(), created_at=at, created_by=BOOTSTRAP.name)
        kept, is_new = self._tokens.bootstrap(token, digest, BOOTSTRAP)
        if is_new:
            self._announce(Action.TOKEN_CREATED, None, kept, BOOTSTRAP)
        return kept
