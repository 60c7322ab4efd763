"""Objects that several versions have, as copies do: how many. Without an item, one has it.

An item stays as long as anybody has the object, even if that is one again: the object is marked with the version that
it was stored for, and that may be the first to go.
"""

import hashlib

from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import DoesNotExist

from chalicelib.registry.models import File, ModelVersion
from chalicelib.store.keys import META, model_key
from chalicelib.store.schema import RegistryItem, VersionItem
from chalicelib.store.transactions import Transaction, transient_errors_as_busy


class HeldItem(RegistryItem):
    """`HELD#{sha256 of the key}` / `META`: by how many versions this object is named."""

    key = UnicodeAttribute()
    holders = NumberAttribute(attr_name="count")


def held_key(key: str) -> str:
    return f"HELD#{hashlib.sha256(key.encode()).hexdigest()}"


def held(key: str) -> HeldItem | None:
    """The count of an object, if there is one."""
    with transient_errors_as_busy():
        try:
            return HeldItem.get(held_key(key), META, consistent_read=True)
        except DoesNotExist:
            return None


def hold(tx: Transaction, file: File, source: ModelVersion) -> None:
    """Count one more version that has the object of this one. Refused as `source` if that has gone or changed."""
    item = HeldItem(held_key(file.key), META)
    # The one that has it already is counted with the first copy.
    actions = [HeldItem.key.set(file.key), HeldItem.holders.set((HeldItem.holders | 1) + 1)]
    tx.update("held", item, actions, condition=HeldItem.holders.does_not_exist() | (HeldItem.holders >= 1))
    has_it = (VersionItem.seq == source.revision) & VersionItem.record.exists()
    tx.check("source", VersionItem, model_key(source.id), META, condition=has_it)


def let_go(tx: Transaction, file: File, is_contended: bool) -> bool:
    """Count one version less; whether that was the last. The first attempt reads nothing: most are not counted."""
    counted = held(file.key) if is_contended else None
    pk = held_key(file.key)
    if counted is None:
        tx.check("held", HeldItem, pk, META, condition=HeldItem.pk.does_not_exist())
        return True
    is_as_read = HeldItem.holders == counted.holders
    if counted.holders > 1:
        tx.update("held", HeldItem(pk, META), [HeldItem.holders.add(-1)], condition=is_as_read)
        return False
    tx.delete("held", HeldItem(pk, META), condition=is_as_read)
    return True
