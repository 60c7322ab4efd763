"""Records of registered models as wholes: with the tags beside them, and the rows by which they are found.

Rows by name hold exactly what the record says. Rows by tag and by last change are hints (search_rows.py): there is one
for whatever is so, and some for what no longer is.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from pynamodb.exceptions import DoesNotExist

from chalicelib.registry.errors import NO_SUCH_NAME, NotFound
from chalicelib.registry.models import time_text
from chalicelib.store.batches import put_all
from chalicelib.store.keys import (
    META,
    NAMES,
    changed_key,
    exposed_name_key,
    listed_key,
    name_key,
    project_digest,
    project_names_key,
    registered_model_key,
)
from chalicelib.store.schema import (
    ClaimItem,
    EventItem,
    GoneItem,
    ListedItem,
    NameItem,
    PointerItem,
    record_of,
)
from chalicelib.store.search_rows import MODELS_BY_CHANGE, ChangeRow, ModelRow, TagRow, partitions_of
from chalicelib.store.spilling import TagsItem, keep, piece_key, spill, tags_of
from chalicelib.store.transactions import LostRace, transient_errors_as_busy

if TYPE_CHECKING:
    from pynamodb.expressions.condition import Condition
    from pynamodb.expressions.update import Action as Update

    from chalicelib.registry.audit import Event
    from chalicelib.registry.models import Metadata, ModelVersion
    from chalicelib.registry.registered_models import RegisteredModel
    from chalicelib.store.schema import (
        RegistryItem,
    )
    from chalicelib.store.transactions import Transaction

MAX_TAG_ROWS = 40  # in a transaction, which may have 100 items


def model_of(item: NameItem) -> RegisteredModel:
    """What an item holds; one call more if its tags are beside it. Raises LostRace if they have changed."""
    model = item.inline_model()
    return model.model_copy(update={"tags": tags_of(item)}) if item.tag_pieces else model


def item_of(rm_id: str, seen_as: RegisteredModel | Metadata | None = None) -> NameItem:
    """A registered model by its id, looked for first where it was seen last. Raises NotFound."""
    with transient_errors_as_busy():
        if seen_as and (item := item_at(name_key(seen_as), rm_id)):
            return item
        try:
            pointer = PointerItem.get(registered_model_key(rm_id), "NAME", consistent_read=True)
        except DoesNotExist as exc:
            raise NotFound(NO_SUCH_NAME) from exc
        if pointer.target is None:  # the tombstone of a deleted one
            raise NotFound(NO_SUCH_NAME)
        if item := item_at(pointer.target, rm_id):
            return item
    raise LostRace("the registered model has been renamed or deleted meanwhile")


def item_at(key: str | None, rm_id: str) -> NameItem | None:
    """What stands there, if that is this registered model."""
    with suppress(DoesNotExist):
        item = NameItem.get(key, META, consistent_read=True) if key else None
        return item if item and item.rm_id == rm_id else None
    return None


def names_rows(model: RegisteredModel, key: str) -> list[RegistryItem]:
    """Where its name is listed, which that of a prompt is not."""
    if model.is_prompt:
        return []
    digest = project_digest(model.project_id, model.project_name)
    sk = listed_key(model.exposed_name, model.rm_id)
    partitions = [NAMES, *([project_names_key(digest)] if digest else [])]
    return [ListedItem(pk, sk, target=key, exact_name=model.name) for pk in partitions]


def change_rows(model: RegisteredModel | ModelVersion, rm_id: str, key: str, at: datetime) -> list[RegistryItem]:
    """Where it is listed by its last change, which was at this time. `key` is that of its item."""
    return [
        ChangeRow(pk, changed_key(at, rm_id), target=key, exact_name=model.name)
        for pk in partitions_of(MODELS_BY_CHANGE, model.project_id, model.project_name)
    ]


def tag_rows(model: RegisteredModel, key: str) -> list[RegistryItem]:
    return [TagRow.row_of(model, key, tag) for tag in sorted(model.tags)]


def rows_of(model: RegisteredModel, key: str) -> list[RegistryItem]:
    """Every row by which it is found in a list or a search."""
    changed = change_rows(model, model.rm_id, key, model.last_changed_at)
    return [*names_rows(model, key), *ModelRow.rows_of(model, key), *changed, *tag_rows(model, key)]


def relist(
    tx: Transaction, after: tuple[RegisteredModel, str] | None, before: tuple[RegisteredModel, str] | None = None
) -> None:
    """Have a registered model, with the key of its item, listed where it belongs, and nowhere else.

    Of many rows by tag the first are put before the transaction, and the last taken away by whoever passes over them.
    """
    old = {(row.pk, row.sk): row for row in (rows_of(*before) if before else ())}
    new = {(row.pk, row.sk): row for row in (rows_of(*after) if after else ())}
    changed = [row for place, row in new.items() if place not in old or row.serialize() != old[place].serialize()]
    gone = [row for place, row in old.items() if place not in new]
    hints = [row for row in changed if isinstance(row, TagRow)]
    put_all(hints[MAX_TAG_ROWS:])
    for row in [row for row in changed if not isinstance(row, TagRow)] + hints[:MAX_TAG_ROWS]:
        tx.put("row", row)
    gone_hints = [row for row in gone if isinstance(row, TagRow)]
    room = max(0, MAX_TAG_ROWS - len(hints))
    for row in [row for row in gone if not isinstance(row, TagRow)] + gone_hints[:room]:
        tx.delete("old row", type(row)(row.pk, row.sk))


def rewrite(tx: Transaction, item: NameItem, before: RegisteredModel, after: RegisteredModel, event: Event) -> None:
    """Store a registered model as it is from an event on, in the place of `item`, with the event and its rows.

    It is not put as a whole, for the counter moves on meanwhile.
    """
    new = NameItem(item.pk, META, seq=event.seq)
    if before.tags == after.tags:
        keep(new, item)
    else:
        spill(tx, new, after.tags, item)
    actions: list[Update] = [
        NameItem.record.set(record_of(after)),
        NameItem.seq.set(event.seq),
        NameItem.digest.set(event.digest),
        *_set_or_removed(new),
    ]
    is_unchanged: Condition = (NameItem.rm_id == after.rm_id) & (NameItem.seq == item.head.seq)
    tx.update("registered model", NameItem(item.pk, META), actions, condition=is_unchanged)
    tx.put("rm event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
    relist(tx, (after, item.pk), (before, item.pk))


def _set_or_removed(new: NameItem) -> list[Update]:
    if not new.tag_pieces:
        return [NameItem.tag_pieces.remove(), NameItem.tags_seq.remove()]
    return [NameItem.tag_pieces.set(new.tag_pieces), NameItem.tags_seq.set(new.tags_seq)]


def put_model(tx: Transaction, model: RegisteredModel, counter: int, event: Event) -> None:
    """Store a new registered model: found by its project and name, by its id, by its exposed name, and in lists."""
    key = name_key(model)
    item = NameItem.of(model, key, counter, event)
    spill(tx, item, model.tags)
    tx.put("name", item, condition=NameItem.pk.does_not_exist())
    tx.put("pointer", PointerItem(registered_model_key(model.rm_id), "NAME", target=key))
    claim = ClaimItem(exposed_name_key(model.exposed_name), META, holder=model.rm_id, target=key)
    tx.put("exposed name", claim, condition=ClaimItem.pk.does_not_exist())
    tx.put("rm event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
    relist(tx, (model, key))


def move_model(tx: Transaction, item: NameItem, before: RegisteredModel, after: RegisteredModel, event: Event) -> None:
    """Have a registered model stand under another name. Refused as `name` or `exposed name` if that is taken."""
    key = name_key(after)
    new = NameItem.of(after, key, int(item.counter), event)
    new.touched_at = item.touched_at
    spill(tx, new, after.tags)
    _drop_tags(tx, item)
    tx.put("name", new, condition=NameItem.pk.does_not_exist())
    tx.delete("old name", NameItem(item.pk, META), condition=_is_as_read(item))
    tx.put("pointer", PointerItem(registered_model_key(after.rm_id), "NAME", target=key))
    old_claim = ClaimItem(exposed_name_key(before.exposed_name), META)
    claim = ClaimItem(exposed_name_key(after.exposed_name), META, holder=after.rm_id, target=key)
    if old_claim.pk == claim.pk:
        tx.put("claim", claim, condition=ClaimItem.holder == after.rm_id)
    else:
        tx.delete("old claim", old_claim, condition=ClaimItem.holder == after.rm_id)
        tx.put("exposed name", claim, condition=ClaimItem.pk.does_not_exist())
    tx.put("rm event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
    relist(tx, (after, key), (before, item.pk))


def bury_model(tx: Transaction, item: NameItem, model: RegisteredModel, event: Event) -> None:
    """Have nothing find a registered model any more, and leave a tombstone with its last event."""
    _drop_tags(tx, item)
    tx.delete("name", NameItem(item.pk, META), condition=_is_as_read(item))
    gone = GoneItem(registered_model_key(model.rm_id), "NAME", deleted=True, seq=event.seq, digest=event.digest)
    tx.put("tombstone", gone)
    claim = ClaimItem(exposed_name_key(model.exposed_name), META)
    tx.delete("claim", claim, condition=ClaimItem.holder == model.rm_id)
    tx.put("rm event", EventItem.of(event), condition=EventItem.pk.does_not_exist())
    relist(tx, None, (model, item.pk))


def _drop_tags(tx: Transaction, item: NameItem) -> None:
    for number in range(int(item.tag_pieces or 0)):
        tx.delete(f"old tags {number}", TagsItem(item.pk, piece_key(number)))


def _is_as_read(item: NameItem) -> Condition:
    """Nothing has happened to a registered model, and it has given out no number, since."""
    is_same: Condition = NameItem.rm_id == item.rm_id
    is_unchanged: Condition = (NameItem.seq == item.head.seq) & (NameItem.counter == int(item.counter))
    return is_same & is_unchanged  # type: ignore[no-any-return] # PynamoDB's operators tell nothing


def touch(
    tx: Transaction,
    version: ModelVersion,
    rm_id: str,
    at: datetime,
    changed_at: datetime | None = None,
    is_as_read: Condition | None = None,
    counter: int | None = None,
) -> None:
    """Have a registered model say that a version came or went, under the name that the version has of it.

    `changed_at` is when it changed last, if that is known by a read that `is_as_read` holds for: then the row of that
    is taken away. `counter` is its new one. Refused as `name` if it is not there.
    """
    is_there: Condition = NameItem.rm_id == rm_id
    actions: list[Update] = [NameItem.touched_at.set(time_text(at))]
    if counter is not None:
        actions.append(NameItem.counter.set(counter))
    condition = is_there if is_as_read is None else is_there & is_as_read
    key = name_key(version)
    tx.update("name", NameItem(key, META), actions, condition=condition)
    if changed_at is None or changed_key(at, rm_id) > changed_key(changed_at, rm_id):
        for row in change_rows(version, rm_id, key, at):
            tx.put("change row", row)
        for row in change_rows(version, rm_id, key, changed_at) if changed_at else ():
            tx.delete("old change row", ChangeRow(row.pk, row.sk))
