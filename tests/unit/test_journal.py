"""The journal of the local runner: what it keeps, what it drops, what it refuses; and the tables it restores."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from infra.local.journal import BrokenJournalError, Journal
from infra.local.tables import DurableTables, saved_file

ENTRIES = [["first", 1], ["second", {"N": "2"}], ["third", None]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = Journal(path)
    yield opened
    opened.close()


def write(journal: Journal, *entries: Any) -> None:
    async def append_all() -> None:
        for entry in entries:
            journal.append(entry)
        await journal.durable()

    asyncio.run(append_all())


def read(path: Path) -> list[Any]:
    journal = Journal(path)
    try:
        return list(journal.entries())
    finally:
        journal.close()


def test_entries_come_back_in_order(journal: Journal, path: Path):
    write(journal, *ENTRIES)

    assert read(path) == ENTRIES


def test_a_new_journal_is_empty(path: Path):
    assert read(path) == []


def test_an_unfinished_last_line_is_dropped_and_logged(journal: Journal, path: Path, caplog: pytest.LogCaptureFixture):
    write(journal, *ENTRIES)
    path.write_bytes(path.read_bytes()[:-3])

    with caplog.at_level(logging.WARNING):
        assert read(path) == ENTRIES[:2]

    assert "dropped line 3" in caplog.text


def test_what_follows_a_dropped_line_is_readable(journal: Journal, path: Path):
    write(journal, *ENTRIES)
    path.write_bytes(path.read_bytes()[:-3])

    assert list(journal.entries()) == ENTRIES[:2]
    write(journal, ["fourth"])

    assert read(path) == [*ENTRIES[:2], ["fourth"]]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_damage_is_refused_with_the_file_and_the_line(journal: Journal, path: Path, number: int):
    write(journal, *ENTRIES)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"', b"'", 1)
    path.write_bytes(b"".join(lines))

    with pytest.raises(BrokenJournalError, match=rf"{path} is damaged in line {number}\. Restore"):
        read(path)


def test_a_cleared_journal_is_empty_and_usable(journal: Journal, path: Path):
    write(journal, *ENTRIES)
    journal.clear()

    assert read(path) == []
    write(journal, ["later"])
    assert read(path) == [["later"]]


def test_writers_that_wait_together_share_one_fsync(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    writes = []
    monkeypatch.setattr(journal, "_write", lambda lines: writes.append(lines.count(b"\n")))

    async def write_one(number: int) -> None:
        journal.append(number)
        await journal.durable()

    async def write_many() -> None:
        await asyncio.gather(*(write_one(number) for number in range(20)))

    asyncio.run(write_many())

    # The first write may start before the others come; the rest go together.
    assert sum(writes) == 20
    assert len(writes) <= 2


def test_a_writer_hears_of_it_when_the_disk_fails(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    def fail(lines: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "_write", fail)

    with pytest.raises(OSError, match="No space left"):
        write(journal, ["lost"])


class FakeDynamo(ModuleType):
    """As much of the emulator's module as the journal touches, with a counter for an action that is not idempotent."""

    def __init__(self) -> None:
        super().__init__("dynamodb")
        self.table = {"TableArn": "arn:t", "TableId": "id-1", "items": {}}
        self._tables = self

    def all_values(self) -> list[Any]:
        return [self.table]

    def _set_item(self, table: Any, partition: str, sort: str, item: Any) -> None:
        table["items"].setdefault(partition, {})[sort] = item

    def _remove_item(self, table: Any, partition: str, sort: str) -> None:
        table["items"].get(partition, {}).pop(sort, None)

    async def handle_request(self, method: str, path: str, headers: dict[str, str], body: Any, query: Any) -> Any:
        for key in body:
            if key.startswith("-"):
                self._remove_item(self.table, key[1:], "s")
            else:
                count = self.table["items"].get(key, {}).get("s", 0)
                self._set_item(self.table, key, "s", count + 1)
        return 200, {}, b"{}"


class Fixture:
    """Tables with a journal, and what was saved of them."""

    def __init__(self, path: Path, saved: dict[str, Any] | None = None, table_id: str = "id-1") -> None:
        self.dynamo = FakeDynamo()
        self.dynamo.table |= {"items": saved or {}, "TableId": table_id}
        self.journal = Journal(path)
        self.saves = 0
        self.tables = DurableTables(self.dynamo, self.journal, self._save, pytest.fail)
        self.tables.replay()
        self.tables.install()

    def _save(self) -> None:
        self.saves += 1

    def request(self, action: str, *keys: str) -> None:
        headers = {"x-amz-target": f"DynamoDB_20120810.{action}"}
        asyncio.run(self.dynamo.handle_request("POST", "/", headers, keys, {}))

    @property
    def items(self) -> dict[str, Any]:
        return {key: value["s"] for key, value in self.dynamo.table["items"].items() if value}

    def crash(self) -> None:
        self.journal.close()


def test_what_was_answered_is_there_after_a_crash(path: Path):
    before = Fixture(path)
    before.request("UpdateItem", "a")
    before.request("UpdateItem", "a")
    before.request("TransactWriteItems", "b", "c")
    before.request("DeleteItem", "-b")
    before.crash()

    after = Fixture(path)

    assert after.items == before.items == {"a": 2, "c": 1}
    after.crash()


def test_replaying_over_a_state_that_holds_it_already_changes_nothing(path: Path):
    before = Fixture(path)
    for _ in range(3):
        before.request("UpdateItem", "a")
    before.crash()

    once = Fixture(path, {"a": {"s": 3}})
    once.crash()
    twice = Fixture(path, {"a": {"s": 3}})

    assert once.items == twice.items == {"a": 3}
    twice.crash()


def test_a_transaction_cut_short_in_the_journal_is_dropped_whole(path: Path):
    before = Fixture(path)
    before.request("UpdateItem", "a")
    before.request("TransactWriteItems", "b", "c")
    before.crash()
    path.write_bytes(path.read_bytes()[:-10])

    after = Fixture(path)

    assert after.items == {"a": 1}
    after.crash()


def test_changes_of_a_table_that_was_deleted_and_made_again_are_not_replayed(path: Path):
    before = Fixture(path)
    before.request("UpdateItem", "a")
    before.crash()

    after = Fixture(path, table_id="id-2")

    assert after.items == {}
    after.crash()


def test_a_change_of_the_tables_themselves_is_saved_at_once(path: Path):
    fixture = Fixture(path)
    fixture.request("PutItem", "a")
    assert fixture.saves == 0

    fixture.request("CreateTable")

    assert fixture.saves == 1
    assert path.stat().st_size == 0
    fixture.crash()


@pytest.mark.parametrize("action", ["GetItem", "Query", "DescribeTable", "ListTables", "TransactGetItems"])
def test_reads_save_nothing(path: Path, action: str):
    fixture = Fixture(path)
    fixture.request(action)

    assert (fixture.saves, path.stat().st_size) == (0, 0)
    fixture.crash()


def test_a_long_journal_is_replaced_by_the_saved_state(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("infra.local.tables.JOURNAL_LIMIT_BYTES", 500)
    fixture = Fixture(path)
    for number in range(100):
        fixture.request("PutItem", f"key-{number}")

    assert fixture.saves > 5
    assert path.stat().st_size <= 600
    fixture.crash()


def test_a_state_that_was_not_saved_is_noticed(tmp_path: Path):
    state = tmp_path / "dynamodb.json"
    state.write_text("old")

    with pytest.raises(OSError, match="could not save"):
        saved_file(state, lambda: None)


def test_every_change_of_an_item_in_the_emulator_passes_the_functions_the_journal_watches():
    """The emulator is pinned; this fails when an update of it changes items in another way."""
    import inspect
    import re

    from ministack.services import dynamodb

    source = inspect.getsource(dynamodb)
    for name in ("_set_item", "_remove_item"):
        source = source.replace(inspect.getsource(getattr(dynamodb, name)), "")
    writes = re.findall(
        r'^.*\["items"\](?:\[[^]]*\])+ = .*$|^.*\["items"\]\.(?:pop|setdefault|clear)\(.*$', source, re.M
    )

    assert writes == []
    assert "await" not in inspect.getsource(dynamodb.handle_request), "requests must not interleave"
