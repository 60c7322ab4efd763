"""Records of versions as wholes: with the tags beside them, and with the events that made them so."""

from pynamodb.expressions.condition import Condition

from chalicelib.registry.audit import Event
from chalicelib.registry.models import ModelVersion
from chalicelib.store.schema import EventItem, VersionItem
from chalicelib.store.spilling import keep, spill, tags_of
from chalicelib.store.transactions import Transaction


def version_of(item: VersionItem) -> ModelVersion:
    """The version that an item holds; one call more if its tags are beside it. Raises LostRace if they changed."""
    version = item.inline_version()
    return version.model_copy(update={"tags": tags_of(item)}) if item.tag_pieces else version


def put_version(
    tx: Transaction,
    label: str,
    version: ModelVersion,
    event: Event,
    condition: Condition,
    was: tuple[VersionItem, ModelVersion] | None = None,
) -> None:
    """Store a version as it is from an event on, and the event. `was` is what it was, and the item of that."""
    item = VersionItem.of(version, event)
    if was and was[1].tags == version.tags:
        keep(item, was[0])
    else:
        spill(tx, item, version.tags, was[0] if was else None)
    tx.put(label, item, condition=condition)
    tx.put(f"event of {label}", EventItem.of(event), condition=EventItem.pk.does_not_exist())


def bury_version(
    tx: Transaction, label: str, model_id: str, event: Event, condition: Condition, was: VersionItem
) -> None:
    """Leave a tombstone where a version was, and the event of its end."""
    item = VersionItem.tombstone(model_id, event)
    spill(tx, item, {}, was)
    tx.put(label, item, condition=condition)
    tx.put(f"event of {label}", EventItem.of(event), condition=EventItem.pk.does_not_exist())
