"""Composition root of what only MLflow's API needs, built on first use."""

import time
from collections.abc import Callable
from functools import cache
from secrets import randbelow
from typing import TYPE_CHECKING
from uuid import uuid4

from chalicelib import telemetry
from chalicelib.settings import settings
from chalicelib.wiring import aws_client, blobs, new_ulid, registry, utc_now

if TYPE_CHECKING:
    from chalicelib.registry.curating import Curating
    from chalicelib.registry.errands import Errands
    from chalicelib.registry.experiments import Experiments
    from chalicelib.registry.keeping import Keeping
    from chalicelib.registry.logging_models import Tracking
    from chalicelib.registry.making import Making
    from chalicelib.registry.numbering import Numbering
    from chalicelib.registry.packing import Packing
    from chalicelib.registry.planting import Planting
    from chalicelib.registry.searching import Searching
    from chalicelib.registry.tidying import Tidying
    from chalicelib.registry.tracked_things import TrackedThings
    from chalicelib.registry.tracking_lists import TrackedLists
    from chalicelib.registry.unpacking import Unpacking
    from chalicelib.store.trees import DynamoTrees

FIRST_EXPERIMENT = 10**17  # ids are random numbers of 18 digits
TIDY_RESERVE_MILLISECONDS = 30_000  # the last step may wait ten seconds for DynamoDB

# Engineers: each adds own getters below, `@cache`, with lazy imports.


@cache
def errands() -> "Errands":
    """What requests leave for later."""
    from chalicelib.store.errands import SqsErrands

    return SqsErrands(settings().errand_queue_url, lambda: aws_client("sqs"))


@cache
def trees() -> "DynamoTrees":
    """The trees of files."""
    registry()  # connects to the tables
    from chalicelib.store.trees import DynamoTrees

    return DynamoTrees(utc_now)


@cache
def making() -> "Making":
    """What is made of artifacts on demand."""
    registry()  # connects to the tables
    from chalicelib.registry.making import Making
    from chalicelib.store.makings import DynamoMakings

    return Making(DynamoMakings(), errands, utc_now, time.monotonic, time.sleep)


@cache
def packing() -> "Packing":
    """Trees as archives."""
    from chalicelib.registry.packing import Packing

    return Packing(registry().catalog, registry().blobs, trees(), making(), utc_now, new_ulid)


@cache
def unpacking() -> "Unpacking":
    """Archives as trees."""
    from chalicelib.registry.unpacking import Unpacking

    return Unpacking(registry().catalog, registry().blobs, trees(), making(), errands, utc_now, new_ulid)


@cache
def planting() -> "Planting":
    """The artifacts of MLflow's clients."""
    from chalicelib.registry.planting import Planting

    return Planting(registry(), trees(), blobs(), unpacking(), new_ulid)


def keeping() -> "Keeping":
    """Whose the objects are."""
    from chalicelib.registry.keeping import Owners
    from chalicelib.store.makings import DynamoMakings

    return Owners(registry().catalog, registry().blobs, trees(), DynamoMakings())


@cache
def numbering() -> "Numbering":
    """Versions by their numbers."""
    from chalicelib.registry.numbering import Numbering

    stores = registry()
    return Numbering(stores.catalog, stores.blobs, utc_now, lambda: str(uuid4()), telemetry.audit_line)


@cache
def tidying() -> "Tidying":
    """What is left to do when registered models were renamed or deleted."""
    from chalicelib.registry.tidying import Tidying

    stores = registry()
    return Tidying(stores.catalog, stores.blobs, errands, utc_now, telemetry.audit_line)


@cache
def curating() -> "Curating":
    """The life of registered models."""
    from chalicelib.registry.curating import Curating

    return Curating(registry(), tidying(), errands, utc_now, new_ulid, telemetry.audit_line)


@cache
def tracked_things() -> "TrackedThings":
    """Experiments, runs and logged models, as they are kept."""
    registry()  # connects to the tables
    from chalicelib.registry.tracked_things import TrackedThings
    from chalicelib.store.tracking import DynamoTracking

    return TrackedThings(DynamoTracking(new_ulid), utc_now, telemetry.audit_line)


@cache
def experiments() -> "Experiments":
    """Experiments."""
    from chalicelib.registry.experiments import Experiments

    return Experiments(tracked_things(), lambda: str(FIRST_EXPERIMENT + randbelow(9 * FIRST_EXPERIMENT)))


@cache
def tracking() -> "Tracking":
    """Runs and logged models."""
    from chalicelib.registry.logging_models import Tracking

    return Tracking(tracked_things(), experiments(), lambda: uuid4().hex)


@cache
def tracked_lists() -> "TrackedLists":
    """Experiments, runs and logged models, as they are listed."""
    from chalicelib.registry.tracking_lists import TrackedLists

    return TrackedLists(tracked_things().store)


@cache
def searching() -> "Searching":
    """Searches of registered models and versions."""
    catalog = registry().catalog
    from chalicelib.registry.searching import Searching
    from chalicelib.store.model_search import DynamoModelSearch

    return Searching(DynamoModelSearch(catalog.registered_models.numbers, catalog.versions))


def run_errand(body: str, remaining_milliseconds: Callable[[], int]) -> None:
    """Do what a message of the queue of errands says; what there is no time for is asked for again."""
    from chalicelib.registry.errands import Errand, ErrandKind

    errand = Errand.model_validate_json(body)
    match errand.kind:
        case ErrandKind.REMOVE_VERSIONS | ErrandKind.RENAME_VERSIONS:
            tidying().run(errand, lambda: remaining_milliseconds() > TIDY_RESERVE_MILLISECONDS)
        case ErrandKind.PACK:
            packing().pack(errand.subject, remaining_milliseconds)
        case ErrandKind.UNPACK:
            unpacking().unpack(errand.subject, remaining_milliseconds)
