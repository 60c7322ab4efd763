"""Trees of files: MLflow's directories of artifacts. One item says what may be written, one each where a file is."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Self

from pynamodb.attributes import BooleanAttribute, NumberAttribute, UnicodeAttribute, UnicodeSetAttribute

from chalicelib.registry.trees import Root, TreeFile, TreeUpload
from chalicelib.store.keys import META
from chalicelib.store.schema import RegistryItem

if TYPE_CHECKING:
    from pynamodb.expressions.condition import Condition

    from chalicelib.registry.models import Tree
    from chalicelib.store.transactions import Transaction

TREE, FILES, TREE_UPLOADS = "TREE#", "F#", "U#"


class TreeItem(RegistryItem):
    """`TREE#{tree_id}` / `META`. `sealed` are the paths, each with a slash behind it, below which nothing changes.

    `changes` counts the writes of its files: a list of them that was made at this count is whole.
    """

    project_id = UnicodeAttribute(null=True)
    project_name = UnicodeAttribute(null=True)
    changes = NumberAttribute(default=0)
    sealed = UnicodeSetAttribute(null=True)
    # The archive that it was unpacked from.
    source = UnicodeAttribute(null=True)

    def root(self) -> Root:
        return Root(
            tree_id=self.pk.removeprefix(TREE),
            project_id=self.project_id,
            project_name=self.project_name,
            changes=int(self.changes),
            sealed=frozenset(self.sealed or ()),
            source=self.source,
        )


class TreeFileItem(RegistryItem):
    """`TREE#{tree_id}` / `F#{path}`: a file, and the object that it is now."""

    key = UnicodeAttribute()
    size = NumberAttribute()
    etag = UnicodeAttribute(null=True)

    @classmethod
    def of(cls, tree_id: str, file: TreeFile) -> Self:
        return cls(tree_key(tree_id), file_key(file.path), key=file.key, size=file.size)

    def file(self) -> TreeFile:
        return TreeFile(path=self.sk.removeprefix(FILES), key=self.key, size=int(self.size))


class TreeUploadItem(RegistryItem):
    """`TREE#{tree_id}` / `U#{upload id}`: a file on its way in parts; forgotten (`ttl`) when none can come any more."""

    path = UnicodeAttribute()
    key = UnicodeAttribute()
    multipart_id = UnicodeAttribute()
    part_count = NumberAttribute()
    completed = BooleanAttribute(null=True)
    ttl = NumberAttribute()

    @classmethod
    def of(cls, upload: TreeUpload, ttl: datetime) -> Self:
        return cls(
            tree_key(upload.tree_id),
            tree_upload_key(upload.id),
            path=upload.path,
            key=upload.key,
            multipart_id=upload.multipart_id,
            part_count=upload.part_count,
            ttl=int(ttl.timestamp()),
        )

    def stored_upload(self) -> TreeUpload:
        return TreeUpload(
            id=self.sk.removeprefix(TREE_UPLOADS),
            tree_id=self.pk.removeprefix(TREE),
            path=self.path,
            key=self.key,
            multipart_id=self.multipart_id,
            part_count=int(self.part_count),
            is_completed=bool(self.completed),
        )


def tree_key(tree_id: str) -> str:
    return f"{TREE}{tree_id}"


def file_key(path: str) -> str:
    return f"{FILES}{path}"


def tree_upload_key(upload_id: str) -> str:
    return f"{TREE_UPLOADS}{upload_id}"


def sealed_path(prefix: str) -> str:
    return f"{prefix}/"


def seal(tx: Transaction, tree: Tree, changes: int) -> None:
    """Have a tree, as it was listed at this count of changes, never change again. Refused as `tree` if it did since."""
    item = TreeItem(tree_key(tree.tree_id), META)
    is_as_listed: Condition = TreeItem.changes == changes
    tx.update("tree", item, [TreeItem.sealed.add({sealed_path(tree.prefix)})], condition=is_as_listed)
