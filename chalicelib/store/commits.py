"""Commits that are done once, although races are lost, answers are lost, and others act in between."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from pynamodb.exceptions import DoesNotExist

from chalicelib.registry.errors import Conflict, OutcomeUnknown, RegistryError
from chalicelib.store.keys import event_key
from chalicelib.store.schema import EventItem
from chalicelib.store.transactions import (
    Busy,
    LostRace,
    Refused,
    Retry,
    Transaction,
    Unanswered,
    transient_errors_as_busy,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared(Generic[T]):
    """What an attempt is about to commit: the transaction, the number of its event, and what is true afterwards.

    Without a transaction there is nothing to do.
    """

    result: T
    transaction: Transaction | None = None
    seq: int = 0


class Commits:
    """Carries prepared transactions out, again and again until each is done or cannot be."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry

    def once(
        self,
        subject: str,
        event_id: str,
        attempt: Callable[[int], Prepared[T]],
        hear: Callable[[Refused], None] = lambda _: None,
    ) -> T:
        """The result of an operation that is done once, although answers may be lost and others may act in between.

        Its event, of this id, is put on the subject. What was sent without an answer is known by it, for events stay
        for ever, whatever happens to the subject. `hear` is told why an attempt was refused, before the next; what it
        raises ends this. Raises OutcomeUnknown if in the end it cannot be told whether such an attempt was, or will
        be, done.
        """
        unanswered: list[Prepared[T]] = []

        def go(number: int) -> T:
            if done := self._done(subject, event_id, unanswered):
                return done.result
            prepared = attempt(number)
            if prepared.transaction:
                try:
                    _commit(prepared.transaction, subject.partition("#")[2], hear)
                except Unanswered:
                    unanswered.append(prepared)
                    raise
            return prepared.result

        try:
            return self._retry(go)
        except RegistryError as exc:
            if not unanswered:
                raise
            with suppress(Busy):
                if done := self._done(subject, event_id, unanswered):
                    return done.result
            raise OutcomeUnknown(
                "It is not known whether this was done, for an answer of the store was lost: look before you repeat it."
            ) from exc

    def _done(self, subject: str, event_id: str, unanswered: Sequence[Prepared[T]]) -> Prepared[T] | None:
        """The one of these attempts that was done after all, by its event."""
        for prepared in unanswered:
            with transient_errors_as_busy():
                try:
                    event = EventItem.get(subject, event_key(prepared.seq), consistent_read=True)
                except DoesNotExist:
                    continue
            if event.event_id == event_id:
                return prepared
        return None


def _commit(tx: Transaction, model_id: str, hear: Callable[[Refused], None]) -> None:
    """Commit. Raises Conflict for a taken id or claim, LostRace for whatever reading again may mend.

    What an upload holds may be free by now: only reading tells.
    """
    try:
        tx.commit()
    except Refused as exc:
        held = exc.items.get("id")
        if held and "record" in held:
            raise Conflict(model_id) from exc
        claimed = exc.items.get("claim")
        if claimed and claimed["holder"]["S"] != model_id and "upload" not in claimed:
            raise Conflict(claimed["holder"]["S"]) from exc
        hear(exc)
        raise LostRace(str(exc)) from exc
