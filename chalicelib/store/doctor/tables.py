"""What the doctor reads and writes in the two tables, item for item as DynamoDB has them.

Reads that are compared are one transaction. The only function that scans: nothing that answers a request does.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pynamodb.connection.base import Connection
from pynamodb.exceptions import TransactGetError, TransactWriteError
from pynamodb.models import Model

from chalicelib.store.doctor.views import Key, Repair, View
from chalicelib.store.keys import UPLOADS
from chalicelib.store.schema import EventItem, PointerItem, RegistryItem
from chalicelib.store.transactions import TRANSIENT, Busy, RawItem, Retry, transient_errors_as_busy

MAX_READ = 100  # of one transaction
REFUSED = "ConditionalCheckFailed"
Where = tuple[str, str]  # pk, sk


class Rows(NamedTuple):
    """A part of a table or of a partition; `after` is where the next begins, None that there is none."""

    items: Sequence[RawItem]
    after: Where | None


class Tables:
    """The item classes have to be bound before."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._items: Mapping[str, type[Model]] = {"registry": RegistryItem, "events": EventItem}
        self._connection: Connection = RegistryItem._get_connection().connection

    def read(self, keys: Collection[Key]) -> View:
        """These items as they are at one moment; at most MAX_READ. Raises Unavailable."""
        ordered = sorted(keys)
        gets = [self._where(key) for key in ordered]

        def read(_: int) -> View:
            try:
                with transient_errors_as_busy():
                    answer = self._connection.transact_get_items(gets)
            except TransactGetError as exc:
                if any(reason and reason.code in TRANSIENT for reason in exc.cancellation_reasons):
                    raise Busy("TransactionCanceled") from exc
                raise
            found = [response.get("Item") or None for response in answer["Responses"]]
            return View(dict(zip(ordered, found, strict=True)))

        return self._retry(read)

    def scan(self, table: str, after: Where | None, limit: int, attributes: list[str] | None = None) -> Rows:
        """The next items of a table, in DynamoDB's order. Raises Unavailable."""

        def read(_: int) -> Rows:
            with transient_errors_as_busy():
                answer = (
                    self._items[table]
                    ._get_connection()
                    .scan(
                        limit=limit,
                        exclusive_start_key=_start(after),  # type: ignore[arg-type] # PynamoDB takes it, as DynamoDB gave it
                        consistent_read=True,
                        attributes_to_get=attributes,
                    )
                )
            return _rows(answer)

        return self._retry(read)

    def events(self, subject: str, behind: str | None, limit: int) -> Rows:
        """The next items of a subject's trail, in order, whatever they are. Raises Unavailable."""

        def read(_: int) -> Rows:
            with transient_errors_as_busy():
                answer = EventItem._get_connection().query(
                    subject,
                    range_key_condition=EventItem.sk > behind if behind is not None else None,
                    consistent_read=True,
                    limit=limit,
                )
            return _rows(answer)

        return self._retry(read)

    def has_upload_row(self, upload_id: str, first: str, last: str) -> bool:
        """Whether a row of this upload stands between two times in the list of the sweep. Raises Unavailable."""
        within = PointerItem.sk.between(first, f"{last}~")
        after: Where | None = None

        def read(_: int) -> Rows:
            with transient_errors_as_busy():
                answer = RegistryItem._get_connection().query(
                    UPLOADS,
                    range_key_condition=within,
                    consistent_read=True,
                    attributes_to_get=["pk", "sk"],
                    exclusive_start_key=_start(after),
                )
            return _rows(answer)

        while True:
            rows = self._retry(read)
            if any(row["sk"]["S"].partition("#")[2] == upload_id for row in rows.items):
                return True
            if (after := rows.after) is None:
                return False

    def commit(self, view: View, repair: Repair) -> bool:
        """Make a repair if all is still as it was seen; whether it was made. Raises Unavailable."""
        kind, write = self._write(view, repair)
        # Where no item can be, nobody will put one.
        checks = [{**self._where(key), **_as_seen(view.seen(key))} for key in repair.assuming if key.can_be]
        token = str(uuid.uuid4())  # asked twice, since an answer was lost, DynamoDB does it once

        def commit(_: int) -> bool:
            try:
                with transient_errors_as_busy():
                    self._connection.transact_write_items(
                        condition_check_items=checks,
                        delete_items=[write] if kind == "delete" else [],
                        put_items=[write] if kind == "put" else [],
                        update_items=[write] if kind == "change" else [],
                        client_request_token=token,
                    )
            except TransactWriteError as exc:
                codes = {reason.code for reason in exc.cancellation_reasons if reason}
                if REFUSED in codes:
                    return False
                if codes & TRANSIENT:
                    raise Busy("TransactionCanceled") from exc
                raise
            return True

        return self._retry(commit)

    def _write(self, view: View, repair: Repair) -> tuple[str, dict[str, Any]]:
        condition = _as_seen(view.seen(repair.key))
        if repair.put is not None:
            return "put", {"TableName": self._name(repair.key), "Item": repair.put, **condition}
        if repair.change is None:
            return "delete", {**self._where(repair.key), **condition}
        names = {f"#c{n}": name for n, name in enumerate(repair.change)}
        values = {f":c{n}": value for n, value in enumerate(repair.change.values())}
        return "change", {
            **self._where(repair.key),
            "UpdateExpression": f"SET {', '.join(f'#c{n} = :c{n}' for n in range(len(names)))}",
            "ConditionExpression": condition["ConditionExpression"],
            "ExpressionAttributeNames": condition["ExpressionAttributeNames"] | names,
            "ExpressionAttributeValues": condition["ExpressionAttributeValues"] | values,
        }

    def _where(self, key: Key) -> dict[str, Any]:
        return {"TableName": self._name(key), "Key": {"pk": {"S": key.pk}, "sk": {"S": key.sk}}}

    def _name(self, key: Key) -> str:
        return str(self._items[key.table].Meta.table_name)


def _as_seen(raw: RawItem | None) -> dict[str, Any]:
    """The condition that an item is as it was."""
    if raw is None:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    return {
        "ConditionExpression": " AND ".join(f"#s{n} = :s{n}" for n in range(len(raw))),
        "ExpressionAttributeNames": {f"#s{n}": name for n, name in enumerate(raw)},
        "ExpressionAttributeValues": {f":s{n}": value for n, value in enumerate(raw.values())},
    }


def _start(after: Where | None) -> dict[str, Any] | None:
    return {"pk": {"S": after[0]}, "sk": {"S": after[1]}} if after else None


def _rows(answer: Mapping[str, Any]) -> Rows:
    last = answer.get("LastEvaluatedKey")
    return Rows(answer["Items"], (last["pk"]["S"], last["sk"]["S"]) if last else None)
