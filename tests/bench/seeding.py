"""Many models at once, straight into the tables, as registering them one by one leaves what requests read."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from ulid import ULID

from chalicelib.registry.audit import Action, Change
from chalicelib.registry.models import Head, ModelVersion
from chalicelib.store.schema import EventItem, VersionItem
from chalicelib.store.version_rows import CatalogItem, number_row
from tests.conftest import ALICE

# 100,000 of them are the work of twelve days, up to now: lists of events look back from now, day by day.
APART = timedelta(seconds=10)
FIRST = datetime.now(UTC) - 100_000 * APART


def seeded_id(name: str, version: str) -> str:
    return f"00000000-0000-4000-8000-{name}-{version}"


def seeded_name(number: int) -> str:
    return f"seeded-{number:06}"


def seed_models(pattern: ModelVersion, numbers: Iterable[int]) -> None:
    """Models like the pattern, each of a name of its own, with the events of their registration."""
    _store(
        pattern.model_copy(
            update={"id": seeded_id(name, "v1"), "name": name, "published_at": FIRST + number * APART, "number": 1}
        )
        for number, name in ((number, seeded_name(number)) for number in numbers)
    )


def seed_versions(pattern: ModelVersion, numbers: Iterable[int]) -> None:
    """More versions of the name of the pattern."""
    _store(
        pattern.model_copy(
            update={
                "id": seeded_id(pattern.name, f"v{number}"),
                "version": f"v{number}",
                "number": number,
                "published_at": FIRST + number * APART,
            }
        )
        for number in numbers
    )


def _store(versions: Iterator[ModelVersion]) -> None:
    """A thousand at a time, which is what fits in memory beside a store in memory."""
    while some := list(itertools.islice(versions, 1000)):
        with ExitStack() as stack:
            models = stack.enter_context(VersionItem.batch_write())
            rows = stack.enter_context(CatalogItem.batch_write())
            events = stack.enter_context(EventItem.batch_write())
            for version in some:
                item = VersionItem(f"MODEL#{version.id}", "META", seq=1, digest="0" * 64, event_id="0" * 26)
                item.record = version.model_dump_json()
                models.save(item)
                for row in [*CatalogItem.rows_of(version), number_row(version)]:
                    rows.save(row)
                events.save(_registration(version))


def _registration(version: ModelVersion) -> EventItem:
    at = version.published_at
    event_id = str(ULID.from_datetime(at))
    change = Change.between(Action.VERSION_REGISTERED, None, version, ALICE, at, event_id)
    return EventItem.of(change.after(f"MODEL#{version.id}", Head()))
