"""The API tokens on DynamoDB, each with its trail. Only digests are kept."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from pynamodb.connection.base import Connection
from pynamodb.exceptions import DoesNotExist, PynamoDBException

from chalicelib.registry.access import Actor
from chalicelib.registry.audit import Action, Change, Event
from chalicelib.registry.errors import NO_SUCH_TOKEN, Forbidden, NotFound
from chalicelib.registry.models import Head, time_text
from chalicelib.registry.tokens import USE_NOTED_EVERY, StoredToken, Token
from chalicelib.store.commits import Commits, Prepared
from chalicelib.store.keys import BOOTSTRAP, META, TOKENS, token_key
from chalicelib.store.schema import EventItem, PointerItem, TokenItem
from chalicelib.store.transactions import Busy, Retry, Transaction, transient_errors_as_busy

PAGE = 100


class DynamoTokens:
    """Tokens (registry/ports.py) on the two tables of schema.py."""

    def __init__(self, connection: Connection, commits: Commits, retry: Retry, new_ulid: Callable[[], str]) -> None:
        self._connection = connection
        self._commits = commits
        self._retry = retry
        self._new_ulid = new_ulid

    def find(self, token_id: str) -> StoredToken | None:
        item = self._retry(lambda _: self._item(token_id))
        return item.stored_token() if item else None

    def page(self, limit: int, after: str | None = None) -> tuple[Sequence[StoredToken], str | None]:
        def read(_: int) -> tuple[Sequence[StoredToken], str | None]:
            behind = PointerItem.sk > after if after else None
            with transient_errors_as_busy():
                rows = [row.sk for row in PointerItem.query(TOKENS, behind, limit=limit + 1, consistent_read=True)]
                shown = rows[:limit]
                items = TokenItem.batch_get([(token_key(token_id), META) for token_id in shown], consistent_read=True)
                found = {item.pk: item.stored_token() for item in items}
            # A row without its token is passed over, and does not end the list.
            kept = [found[token_key(token_id)] for token_id in shown if token_key(token_id) in found]
            return kept, shown[-1] if len(rows) > limit else None

        return self._retry(read)

    def add(self, token: Token, digest: str, by: Actor) -> None:
        event_id = self._new_ulid()

        def attempt(_: int) -> Prepared[None]:
            tx = Transaction(self._connection)
            return Prepared(None, tx, self._add_to(tx, token, digest, by, event_id))

        self._commits.once(token_key(token.id), event_id, attempt)

    def revoke(self, token_id: str, by: Actor, at: datetime) -> tuple[Token, Token]:
        event_id = self._new_ulid()

        def attempt(_: int) -> Prepared[tuple[Token, Token]]:
            item = self._item(token_id)
            if item is None:
                raise NotFound(NO_SUCH_TOKEN)
            before = item.stored_token().token
            if before.revoked_at:
                return Prepared((before, before))
            after = before.model_copy(update={"revoked_at": max(at, before.created_at)})
            return self._revoking(item, before, after, by, event_id)

        return self._commits.once(token_key(token_id), event_id, attempt)

    def bootstrap(self, token: Token, digest: str, by: Actor) -> tuple[Token, bool]:
        event_id = self._new_ulid()

        def attempt(_: int) -> Prepared[tuple[Token, bool]]:
            last = self._last_bootstrap()
            kept = self.find(token.id)
            if kept and kept.digest == digest and self._is_first_admin(kept.token, token):
                return Prepared((kept.token, False))
            if kept or self._has_admin(token.created_at):
                raise Forbidden("There is an admin already, or the id is taken: let an admin create a token.")
            tx = Transaction(self._connection)
            is_unchanged = PointerItem.target == last if last else PointerItem.pk.does_not_exist()
            tx.put("bootstrap", PointerItem(BOOTSTRAP, META, target=token.id), condition=is_unchanged)
            return Prepared((token, True), tx, self._add_to(tx, token, digest, by, event_id))

        return self._commits.once(token_key(token.id), event_id, attempt)

    def note_use(self, token_id: str, at: datetime) -> None:
        item = TokenItem(token_key(token_id), META)
        is_due = TokenItem.last_used_at.does_not_exist() | (TokenItem.last_used_at < time_text(at - USE_NOTED_EVERY))
        # It is for people who clean up; a request must not fail for it.
        with suppress(PynamoDBException, Busy), transient_errors_as_busy():
            condition = TokenItem.pk.exists() & is_due
            item.update([TokenItem.last_used_at.set(time_text(at))], condition=condition)

    # Reads

    def _item(self, token_id: str) -> TokenItem | None:
        with transient_errors_as_busy():
            try:
                return TokenItem.get(token_key(token_id), META, consistent_read=True)
            except DoesNotExist:
                return None

    def _last_bootstrap(self) -> str | None:
        with transient_errors_as_busy():
            try:
                return PointerItem.get(BOOTSTRAP, META, consistent_read=True).target
            except DoesNotExist:
                return None

    def _is_first_admin(self, kept: Token, wanted: Token) -> bool:
        is_active = kept.state(wanted.created_at) == "active"
        return is_active and kept.access.is_unlimited_admin and kept.created_by == wanted.created_by

    def _has_admin(self, at: datetime) -> bool:
        """Whether there is a token that can make tokens."""
        page, after = self.page(PAGE)
        while True:
            if any(kept.token.access.is_unlimited_admin and kept.token.state(at) == "active" for kept in page):
                return True
            if after is None:
                return False
            page, after = self.page(PAGE, after)

    # Writes

    def _add_to(self, tx: Transaction, token: Token, digest: str, by: Actor, event_id: str) -> int:
        """Have the transaction store a token with its event; the number of that."""
        change = Change.between(Action.TOKEN_CREATED, None, token, by, token.created_at, event_id)
        event = change.after(token_key(token.id), Head())
        tx.put("token", TokenItem.of(token, digest, event), condition=TokenItem.pk.does_not_exist())
        tx.put("row", PointerItem(TOKENS, token.id, target=token_key(token.id)))
        tx.put("event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
        return event.seq

    def _revoking(
        self, item: TokenItem, before: Token, after: Token, by: Actor, event_id: str
    ) -> Prepared[tuple[Token, Token]]:
        at = after.revoked_at or after.created_at
        event: Event = Change.between(Action.TOKEN_REVOKED, before, after, by, at, event_id).after(item.pk, item.head)
        tx = Transaction(self._connection)
        # Not put as a whole, for its use is noted meanwhile.
        actions = [
            TokenItem.record.set(after.model_dump_json()),
            TokenItem.seq.set(event.seq),
            TokenItem.digest.set(event.digest),
        ]
        tx.update("token", TokenItem(item.pk, META), actions, condition=TokenItem.seq == item.head.seq)
        tx.put("event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
        return Prepared((before, after), tx, event.seq)
