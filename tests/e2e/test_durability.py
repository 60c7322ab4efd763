"""Nothing that was acknowledged is lost by `kill -9` of everything, at any moment."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.deploy import client
from tests.conftest import ARCHIVE
from tests.stack import Stack

WRITERS = 8
ROUNDS = 3
SEED = 20_261_122
MANY = 10_000
COUNTER = {"pk": {"S": "COUNTER"}, "sk": {"S": "META"}}


@pytest.fixture(scope="module")
def mortal(new_stack: Callable[[], Stack]) -> Stack:
    """A stack that is killed over and over."""
    stack = new_stack()
    stack.start()
    return stack


def all_items(stack: Stack) -> dict[tuple[str, str], Any]:
    pages = stack.aws("dynamodb").get_paginator("scan").paginate(TableName=stack.table, ConsistentRead=True)
    return {(item["pk"]["S"], item["sk"]["S"]): item for page in pages for item in page["Items"]}


@dataclass
class Acknowledged:
    """What the emulator said yes to: keys that must exist, keys that must not, and how often it counted."""

    there: set[tuple[str, str]] = field(default_factory=set)
    gone: set[tuple[str, str]] = field(default_factory=set)
    claims: dict[str, str] = field(default_factory=dict)
    counted: int = 0
    tried: int = 0

    def check(self, items: dict[tuple[str, str], Any]) -> None:
        assert self.there - items.keys() == set(), "acknowledged and missing"
        assert self.gone & items.keys() == set(), "deleted and back"
        held = {key: items[(f"CLAIM#{key}", "META")]["by"]["S"] for key in self.claims}
        assert held == self.claims, "won by one, held by another"
        count = int(items[(COUNTER["pk"]["S"], COUNTER["sk"]["S"])]["n"]["N"])
        assert self.counted <= count <= self.tried

    def check_transactions(self, items: dict[tuple[str, str], Any]) -> None:
        """Acknowledged or not, a transaction is there whole or not at all."""
        halves: dict[str, set[str]] = defaultdict(set)
        for partition, sort in items:
            if sort in ("LEFT", "RIGHT"):
                halves[partition].add(sort)
        assert halves
        assert [name for name, found in halves.items() if len(found) == 1] == []


class Writer(threading.Thread):
    """Writes in every way there is until the emulator is gone; notes what was acknowledged."""

    def __init__(self, stack: Stack, number: int, round_number: int) -> None:
        super().__init__()
        # A retry would knock at a closed door for 25 seconds.
        self._dynamodb = client("dynamodb", stack.local, Config(retries={"total_max_attempts": 1}))
        self._table = stack.table
        self._name = f"{round_number}-{number}"
        self._claims = round_number
        self.acknowledged = Acknowledged()

    def run(self) -> None:
        serial = 0
        # Whatever the connection says when its other end is killed.
        try:
            while True:
                serial += 1
                self._put_and_delete(serial)
                self._count()
                self._transact(serial)
                self._claim(serial)
        except BotoCoreError:
            self._dynamodb.close()

    def _put_and_delete(self, serial: int) -> None:
        kept, dropped = (f"PUT#{self._name}", str(serial)), (f"DROP#{self._name}", str(serial))
        self._dynamodb.batch_write_item(RequestItems={self._table: [put(kept), put(dropped)]})
        self.acknowledged.there |= {kept, dropped}
        # Unsettled from here until the answer: it may be gone already.
        self.acknowledged.there.discard(dropped)
        self._dynamodb.delete_item(TableName=self._table, Key=put(dropped)["PutRequest"]["Item"])
        self.acknowledged.gone.add(dropped)

    def _count(self) -> None:
        self.acknowledged.tried += 1
        self._dynamodb.update_item(
            TableName=self._table,
            Key=COUNTER,
            UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
        self.acknowledged.counted += 1

    def _transact(self, serial: int) -> None:
        keys = [(f"TX#{self._name}-{serial}", half) for half in ("LEFT", "RIGHT")]
        puts = [{"Put": {"TableName": self._table, **put(key)["PutRequest"]}} for key in keys]
        self._dynamodb.transact_write_items(TransactItems=puts)
        self.acknowledged.there |= set(keys)

    def _claim(self, serial: int) -> None:
        """One of the writers gets it; that one must still hold it later."""
        claim = f"{self._claims}-{serial}"
        item = put((f"CLAIM#{claim}", "META"))["PutRequest"]["Item"] | {"by": {"S": self._name}}
        try:
            self._dynamodb.put_item(TableName=self._table, Item=item, ConditionExpression="attribute_not_exists(pk)")
        except ClientError as exc:
            assert exc.response["Error"]["Code"] == "ConditionalCheckFailedException"  # noqa: PT017
            return
        self.acknowledged.claims[claim] = self._name


def put(key: tuple[str, str]) -> dict[str, Any]:
    return {"PutRequest": {"Item": {"pk": {"S": key[0]}, "sk": {"S": key[1]}}}}


def together(parts: list[Acknowledged]) -> Acknowledged:
    total = Acknowledged()
    for part in parts:
        total.there |= part.there
        total.gone |= part.gone
        total.claims |= part.claims
        total.counted += part.counted
        total.tried += part.tried
    return total


@pytest.fixture
def moments() -> Iterator[float]:
    """After how many seconds to kill: random, the same each time."""
    return iter(random.Random(SEED).uniform(0.3, 2.0) for _ in range(ROUNDS))


def test_eight_writers_lose_nothing_when_everything_is_killed(mortal: Stack, moments: Iterator[float]):
    parts = []
    for round_number, moment in enumerate(moments):
        writers = [Writer(mortal, number, round_number) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(moment)
        mortal.kill()
        for writer in writers:
            writer.join()
        parts += [writer.acknowledged for writer in writers]

        mortal.start()

        items = all_items(mortal)
        total = together(parts)
        total.check(items)
        total.check_transactions(items)
        assert "Deploying" not in mortal.said
    assert total.counted > ROUNDS * WRITERS


def test_registrations_that_were_acknowledged_are_whole_after_a_kill(mortal: Stack):
    registered: dict[str, bytes] = {}

    def register(number: int) -> None:
        for serial in range(100):
            fields = {"name": f"model {number}", "version": str(serial)}
            files = {"file": ("model.zip", ARCHIVE, "application/zip")}
            try:
                answer = requests.post(f"{mortal.url}/models", data=fields, files=files, timeout=30)
            except requests.RequestException:
                return
            # A function that was killed, not the gateway: its answer is no acknowledgement.
            if answer.status_code == 201:
                registered[answer.text] = ARCHIVE

    writers = [threading.Thread(target=register, args=(number,)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + 30
    while len(registered) < 2 * WRITERS and time.monotonic() < deadline:
        time.sleep(0.01)
    mortal.kill()
    for writer in writers:
        writer.join()
    assert len(registered) >= 2 * WRITERS

    mortal.start()

    with requests.Session() as session:
        for model_id, content in registered.items():
            assert session.get(f"{mortal.url}/models/{model_id}", timeout=30).status_code == 200
            assert session.get(f"{mortal.url}/models/{model_id}/files", timeout=30).content == content


def test_versions_and_delete_markers_of_objects_survive_a_kill(mortal: Stack):
    s3, bucket, key = mortal.aws("s3"), mortal.bucket, "artifacts/versions"
    for body in (b"one", b"two"):
        s3.put_object(Bucket=bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256", Metadata={"kept": "yes"})
    head = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    s3.delete_object(Bucket=bucket, Key=key)
    before = s3.list_object_versions(Bucket=bucket, Prefix=key)

    mortal.kill()
    mortal.start()

    after = s3.list_object_versions(Bucket=bucket, Prefix=key)
    assert after["Versions"] == before["Versions"]
    assert after["DeleteMarkers"] == before["DeleteMarkers"]
    again = s3.head_object(Bucket=bucket, Key=key, VersionId=head["VersionId"], ChecksumMode="ENABLED")
    assert again["ChecksumSHA256"] == head["ChecksumSHA256"]
    assert again["Metadata"] == {"kept": "yes"}


def test_many_items_survive_a_kill(mortal: Stack, capsys: pytest.CaptureFixture[str]):
    def load(writer: int) -> None:
        for start in range(writer * 25, MANY, WRITERS * 25):
            puts = [put((f"MANY#{serial}", "META")) for serial in range(start, start + 25)]
            for one in puts:
                one["PutRequest"]["Item"]["padding"] = {"S": "x" * 1000}
            mortal.aws("dynamodb").batch_write_item(RequestItems={mortal.table: puts})

    writers = [threading.Thread(target=load, args=(number,)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    before = all_items(mortal)
    assert len([key for key in before if key[0].startswith("MANY#")]) == MANY

    mortal.kill()
    began = time.monotonic()
    mortal.start()
    seconds = time.monotonic() - began

    assert all_items(mortal) == before
    with capsys.disabled():
        print(f"\nready {seconds:.1f} s after a kill with {len(before):,} items in the journal")
