"""A journal: entries that are on disk before anybody is told that they happened.

One line an entry, with a checksum. Entries appended while others are being written share the next
write and one fsync. An unfinished last line is what a crash leaves behind; nobody was told of it, and
reading drops it. Anything else that does not read is damage, and reading says where.

Knows nothing of the emulator; `tables.py` decides what an entry is. To be used from one event loop.
"""

import asyncio
import json
import logging
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

log = logging.getLogger("journal")


class BrokenJournalError(Exception):
    """The journal is damaged; the text names the file, the line, and what can be done."""


class Journal:
    """Appends to the file; `entries` first reads what an earlier process left in it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("ab", buffering=0)
        # A thread of its own: the loop's threads may all be waiting for functions that wait for us.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._waiting: list[bytes] = []
        self._writing: asyncio.Task[None] | None = None
        self._durable = 0
        self.appended = 0

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def entries(self) -> Iterator[Any]:
        """Every entry in order; an unfinished last line is cut off the file.

        Raises BrokenJournalError when it comes to a damaged line.
        """
        end = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    log.warning("%s: dropped line %d, unfinished when the power went", self._path, number)
                    self._file.truncate(end)
                    return
                yield self._decoded(line, number)
                end += len(line)

    def append(self, entry: Any) -> None:
        """Add an entry; it is on disk once `durable` returns."""
        self._waiting.append(_encoded(entry))
        self.appended += 1

    async def durable(self) -> None:
        """Returns when all that was appended before the call is on disk. Raises OSError if it cannot be."""
        wanted = self.appended
        while self._durable < wanted:
            if self._writing is None:
                self._writing = asyncio.create_task(self._write_waiting())
            # One caller going away must not take the write of the others with it.
            await asyncio.shield(self._writing)

    async def quiet(self) -> None:
        """Returns at a moment when nothing is waiting or being written; it lasts until the caller awaits."""
        while self._durable < self.appended:
            await self.durable()

    def clear(self) -> None:
        """Forget every entry, all of them being safe elsewhere. Call it only when `quiet`."""
        self._file.truncate(0)
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._writer.shutdown()
        self._file.close()

    async def _write_waiting(self) -> None:
        lines, self._waiting, upto = b"".join(self._waiting), [], self.appended
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._write, lines)
            self._durable = upto
        finally:
            self._writing = None

    def _write(self, lines: bytes) -> None:
        rest = memoryview(lines)
        while rest:
            rest = rest[self._file.write(rest) :]
        os.fsync(self._file.fileno())

    def _decoded(self, line: bytes, number: int) -> Any:
        checksum, _, text = line.rstrip(b"\n").partition(b" ")
        if checksum != _checksum(text):
            raise BrokenJournalError(
                f"The journal {self._path} is damaged in line {number}. Restore the file from a copy, or delete "
                "that line and all after it to start again with what was stored before."
            )
        return json.loads(text)


def _encoded(entry: Any) -> bytes:
    text = json.dumps(entry, separators=(",", ":")).encode()
    return _checksum(text) + b" " + text + b"\n"


def _checksum(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)
