"""The emulator's tables made durable: what its DynamoDB answered survives `kill -9`.

The emulator keeps tables in memory and saves them when it stops cleanly. Here every item a request
changed is noted in the journal, as it is afterwards, before the request is answered; at the next start
the journal is replayed over the state that was saved last.

Whole items, not requests, because putting an item twice is putting it once: it does not matter whether
the saved state already holds what is replayed over it. Conditions, counters and transactions are thus
never run again. One request is one entry, so a transaction is replayed whole or not at all.

Rests on three private functions of the emulator, which is pinned: `_set_item` and `_remove_item`, through
which all of its DynamoDB changes items, and `handle_request`, which runs each request to its end before
another begins. Items expired by time to live are noted with the next request; expiring again is harmless.
"""

import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from infra.local.journal import Journal

log = logging.getLogger("journal")

Handler = Callable[..., Awaitable[tuple[int, Any, Any]]]
Table = dict[str, Any]

# Over this size reading the journal takes longer than saving everything once.
JOURNAL_LIMIT_BYTES = 256 * 1024**2
# Actions that change items, which the journal notes, or change nothing. Any other changes the tables themselves.
_ITEM_ACTIONS = {
    *("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"),
    *("ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"),
}
_READS = ("Get", "Describe", "List", "Query", "Scan", "BatchGet", "TransactGet", "Search")


class DurableTables:
    """The emulator's DynamoDB module, with a journal around it once `install` was called."""

    def __init__(
        self,
        dynamodb: ModuleType,
        journal: Journal,
        save: Callable[[], None],
        give_up: Callable[[str], NoReturn],
    ) -> None:
        """`save` writes the state of DynamoDB to disk, or raises OSError. `give_up` ends the process at once."""
        self._dynamodb = dynamodb
        self._journal = journal
        self._save = save
        self._give_up = give_up
        self._limit_bytes = JOURNAL_LIMIT_BYTES
        # A deque, because the emulator's expiry changes items from a thread of its own.
        self._touched: deque[tuple[Table, str, str]] = deque()

    def install(self) -> None:
        for name in ("_set_item", "_remove_item"):
            setattr(self._dynamodb, name, self._noting(getattr(self._dynamodb, name)))
        self._dynamodb.handle_request = self._durable(self._dynamodb.handle_request)  # type: ignore[attr-defined]

    def replay(self) -> None:
        """Bring the tables to where the journal ends. Raises BrokenJournalError."""
        tables = {table["TableArn"]: table for table in self._dynamodb._tables.all_values()}
        count = lost = 0
        for entry in self._journal.entries():
            count += 1
            for arn, table_id, partition, sort, item in entry:
                table = tables.get(arn)
                if table is None or table.get("TableId") != table_id:
                    lost += 1  # of a table that was deleted since
                elif item is None:
                    self._dynamodb._remove_item(table, partition, sort)
                else:
                    self._dynamodb._set_item(table, partition, sort, item)
        self._touched.clear()
        log.info("replayed %d entries, %d changes of tables that are gone", count, lost)

    async def checkpoint(self) -> None:
        """Save the state and begin a new journal. Raises OSError, and keeps the journal, if it cannot be saved."""
        await self._journal.quiet()
        # No await from here on, so no request comes between the state that is saved and the end of the journal.
        self._save()
        self._journal.clear()

    def _noting(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def noted(table: Table, partition: str, sort: str, *item: Any) -> Any:
            result = change(table, partition, sort, *item)
            self._touched.append((table, partition, sort))
            return result

        return noted

    def _durable(self, handle: Handler) -> Handler:
        async def handled(method: str, path: str, headers: dict[str, str], *rest: Any) -> tuple[int, Any, Any]:
            try:
                answer = await handle(method, path, headers, *rest)
            finally:
                self._note_what_changed()
            await self._settle()
            action = headers.get("x-amz-target", "").rpartition(".")[2]
            if answer[0] == 200 and action not in _ITEM_ACTIONS and not action.startswith(_READS):
                # The journal holds items, not tables.
                await self.checkpoint()
            return answer

        return handled

    async def _settle(self) -> None:
        """Wait until the journal is on disk. Reads wait as well: nobody is shown what a crash could undo."""
        try:
            await self._journal.durable()
        except OSError as exc:
            # Memory is now ahead of the disk, and whatever is answered from here on could be untrue.
            self._give_up(f"The journal cannot be written: {exc.strerror}.")
        if self._journal.size_bytes > self._limit_bytes:
            await self._shorten_journal()

    async def _shorten_journal(self) -> None:
        try:
            await self.checkpoint()
        except OSError:
            log.exception("the journal could not be shortened; trying again when it is twice as long")
            self._limit_bytes *= 2

    def _note_what_changed(self) -> None:
        changed: dict[tuple[str, str, str], list[Any]] = {}
        while self._touched:
            table, partition, sort = self._touched.popleft()
            # As it is now, not as it was when it was touched: right even for a change that was rolled back.
            item = table["items"].get(partition, {}).get(sort)
            key = (table["TableArn"], partition, sort)
            changed[key] = [table["TableArn"], table.get("TableId"), partition, sort, item]
        if changed:
            self._journal.append(list(changed.values()))


def saved_file(path: Path, save: Callable[[], None]) -> None:
    """Run `save` and see to it that it left a new file, on disk. Raises OSError otherwise.

    The emulator's own function writes the file beside and renames it, and keeps failures to itself.
    """
    before = identity(path)
    save()
    if identity(path) == before:
        raise OSError(f"the emulator could not save {path}")
    flush(path)


def flush(path: Path) -> None:
    """Have the file and its name on disk, not only in the kernel's memory."""
    for target in (path, path.parent):
        handle = os.open(target, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def identity(path: Path) -> tuple[int, int] | None:
    """What differs between a file and the one that replaced it; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
