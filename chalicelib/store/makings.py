"""What was made of artifacts on demand, and who is at it, on DynamoDB: one item for each."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from pynamodb.attributes import BooleanAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import DeleteError, DoesNotExist
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from chalicelib.registry.errands import ErrandKind
from chalicelib.registry.making import Made
from chalicelib.registry.models import time_text
from chalicelib.store.keys import META
from chalicelib.store.schema import RegistryItem
from chalicelib.store.transactions import Retry, transient_errors_as_busy, updated

PREFIXES = {ErrandKind.PACK: "ZIP#", ErrandKind.UNPACK: "FILES#"}


class MadeItem(RegistryItem):
    """`ZIP#{digest of a tree}` / `META`: its archive. `FILES#{tree id}` / `META`: that an archive is unpacked there."""

    done = BooleanAttribute(null=True)
    why = UnicodeAttribute(null=True)
    key = UnicodeAttribute(null=True)
    size = NumberAttribute(null=True)
    sha256 = UnicodeAttribute(null=True)
    asked_at = UnicodeAttribute(null=True)
    holder = UnicodeAttribute(null=True)
    held_until = UnicodeAttribute(null=True)

    def made(self) -> Made:
        size = int(self.size or 0)
        return Made(is_done=bool(self.done), why=self.why, key=self.key, size=size, sha256=self.sha256)


def made_key(kind: ErrandKind, subject: str) -> str:
    return f"{PREFIXES[kind]}{subject}"


class DynamoMakings:
    """Makings (registry/making.py)."""

    def __init__(self, retry: Retry | None = None) -> None:
        self._retry = retry or Retry()

    def made(self, kind: ErrandKind, subject: str) -> Made:
        def read(_: int) -> Made:
            with transient_errors_as_busy():
                try:
                    return MadeItem.get(made_key(kind, subject), META, consistent_read=True).made()
                except DoesNotExist:
                    return Made()

        return self._retry(read)

    def ask(self, kind: ErrandKind, subject: str, at: datetime, again_after: timedelta) -> bool:
        is_asked_long_ago = MadeItem.asked_at.does_not_exist() | (MadeItem.asked_at < time_text(at - again_after))
        note = [MadeItem.asked_at.set(time_text(at))]
        return self._written(kind, subject, note, _is_unmade() & _is_free(at) & is_asked_long_ago)

    def take(self, kind: ErrandKind, subject: str, holder: str, at: datetime, until: datetime) -> bool:
        hold = [MadeItem.holder.set(holder), MadeItem.held_until.set(time_text(until))]
        is_mine = MadeItem.holder == holder
        return self._written(kind, subject, hold, _is_unmade() & (_is_free(at) | is_mine))

    def finish(self, kind: ErrandKind, subject: str, holder: str, made: Made) -> bool:
        result: list[Action] = [MadeItem.holder.remove(), MadeItem.held_until.remove(), MadeItem.asked_at.remove()]
        if made.why:
            result.append(MadeItem.why.set(made.why))
        else:
            result += [MadeItem.done.set(True), MadeItem.size.set(made.size)]
            result += [MadeItem.key.set(made.key)] if made.key else []
            result += [MadeItem.sha256.set(made.sha256)] if made.sha256 else []
        if self._written(kind, subject, result, MadeItem.holder == holder):
            return True
        # Perhaps by an attempt whose answer was lost.
        return self.made(kind, subject) == made

    def let_go(self, kind: ErrandKind, subject: str, holder: str) -> None:
        nobody = [MadeItem.holder.remove(), MadeItem.held_until.remove(), MadeItem.asked_at.remove()]
        self._written(kind, subject, nobody, MadeItem.holder == holder)

    def undo(self, kind: ErrandKind, subject: str, made: Made) -> None:
        is_that: Condition = MadeItem.done.exists()
        if made.key:
            is_that = is_that & (MadeItem.key == made.key)

        def remove(_: int) -> None:
            try:
                with transient_errors_as_busy():
                    # Taken away as a whole: the sweep may change nothing in place.
                    MadeItem(made_key(kind, subject), META).delete(condition=is_that)
            except DeleteError as exc:
                if exc.cause_response_code != "ConditionalCheckFailedException":
                    raise

        self._retry(remove)

    def _written(self, kind: ErrandKind, subject: str, actions: Sequence[Action], condition: Condition) -> bool:
        return self._retry(lambda _: updated(MadeItem(made_key(kind, subject), META), actions, condition))


def _is_unmade() -> Condition:
    condition: Condition = MadeItem.done.does_not_exist() & MadeItem.why.does_not_exist()
    return condition


def _is_free(at: datetime) -> Condition:
    condition: Condition = MadeItem.held_until.does_not_exist() | (MadeItem.held_until < time_text(at))
    return condition
