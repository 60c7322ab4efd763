"""Tags that are too many for the record that they belong to: kept beside it, in items of their own.

A record of DynamoDB may have 400 KB, the tags of a model or a version 1 MB. Few have more than a page of them, so a
record keeps those, and reading it stays one call. More are compressed and cut into pieces, which are put in the
transaction of the record and bear the number of its event: what was read in two moments is noticed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pynamodb.attributes import BinaryAttribute, NumberAttribute

from chalicelib.store.schema import TAGS, RegistryItem, is_inline
from chalicelib.store.transactions import LostRace, transient_errors_as_busy

if TYPE_CHECKING:
    from chalicelib.store.schema import SpillingItem
    from chalicelib.store.transactions import Transaction

PIECE_BYTES = 350_000


class TagsItem(RegistryItem):
    """`{key of a record}` / `TAGS#{0..}`: a piece of its tags. `seq` is the number of the event that put it there."""

    seq = NumberAttribute()
    content = BinaryAttribute(legacy_encoding=False)


def tags_of(item: SpillingItem) -> dict[str, str]:
    """The tags beside a record. Raises LostRace if they have been changed since it was read."""
    with transient_errors_as_busy():
        found = list(TagsItem.query(item.pk, TagsItem.sk.startswith(TAGS), consistent_read=True))
    if len(found) != int(item.tag_pieces or 0) or any(piece.seq != item.tags_seq for piece in found):
        raise LostRace("the tags have been changed meanwhile")
    return unpacked([piece.content for piece in found])


def unpacked(pieces: list[bytes]) -> dict[str, str]:
    """Raises ValueError for what was not packed here."""
    try:
        tags: Any = json.loads(zlib.decompress(b"".join(pieces)))
    except zlib.error as exc:
        raise ValueError("its tags cannot be unpacked") from exc
    return dict(tags)


def spill(tx: Transaction, item: SpillingItem, tags: Mapping[str, str], was: SpillingItem | None = None) -> None:
    """Put the tags that are not in this record beside it, unless they are there, and take away those of before.

    `was` is the record before. The item is to be put in the same transaction.
    """
    had = int(was.tag_pieces or 0) if was else 0
    pieces = [] if is_inline(tags) else packed(tags)
    item.tag_pieces, item.tags_seq = (len(pieces), item.seq) if pieces else (None, None)
    for number, content in enumerate(pieces):
        tx.put(f"tags {number}", TagsItem(item.pk, piece_key(number), seq=item.seq, content=content))
    for number in range(len(pieces), had):
        tx.delete(f"old tags {number}", TagsItem(item.pk, piece_key(number)))


def keep(item: SpillingItem, was: SpillingItem) -> None:
    """Have a record name the tags beside it as the one before did: they are the same."""
    item.tag_pieces, item.tags_seq = was.tag_pieces, was.tags_seq


def packed(tags: Mapping[str, str]) -> list[bytes]:
    content = zlib.compress(json.dumps(tags, ensure_ascii=False, separators=(",", ":")).encode())
    return [content[at : at + PIECE_BYTES] for at in range(0, len(content), PIECE_BYTES)]


def piece_key(number: int) -> str:
    return f"{TAGS}{number}"
