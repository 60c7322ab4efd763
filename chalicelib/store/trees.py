"""The trees of files on DynamoDB.

A file is written in one transaction with the count of its tree, under the condition that no path above it is sealed:
what seals a tree states the count at which it was listed, so neither can miss the other. Many may write to one tree at
once; the count is added to, never read, so that they wait for each other but do not have to begin anew.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from pynamodb.connection.base import Connection
from pynamodb.exceptions import DoesNotExist
from pynamodb.expressions.condition import Condition, size

from chalicelib.registry.errors import InvalidInput, NotFound, shown
from chalicelib.registry.models import Tree
from chalicelib.registry.trees import Entry, Root, TreeFile, TreeUpload, artifact_of, relative, sealed_text, sealing
from chalicelib.store.keys import META
from chalicelib.store.schema import RegistryItem
from chalicelib.store.transactions import LostRace, Refused, Retry, Transaction, transient_errors_as_busy, updated
from chalicelib.store.tree_items import (
    FILES,
    TreeFileItem,
    TreeItem,
    TreeUploadItem,
    file_key,
    sealed_path,
    tree_key,
    tree_upload_key,
)

# S3 dates an object of parts back to when its upload began: it must not be swept before it has a record.
REMEMBERED = timedelta(hours=24)
PAGE = 500
GLANCE = 50  # of a directory, before it is known whether the next files are in it or deeper
MAX_REMOVED_AT_ONCE = 99  # a transaction has 100 items
AFTER_SLASH = "0"  # the character after it: what begins so comes behind all that is in the directory
BEHIND = "\x01"  # added to a key, the next one: paths have no control characters


class DynamoTrees:
    """Trees (registry/trees.py)."""

    def __init__(self, clock: Callable[[], datetime], retry: Retry | None = None) -> None:
        self._connection: Connection = RegistryItem._get_connection().connection
        self._clock = clock
        self._retry = retry or Retry()

    def created(self, tree_id: str, project_id: str | None, project_name: str | None) -> None:
        self._put_new(TreeItem(tree_key(tree_id), META, project_id=project_id, project_name=project_name, changes=0))

    def unpacked(self, tree_id: str, source: str) -> None:
        self._put_new(TreeItem(tree_key(tree_id), META, source=source, changes=0))

    def _put_new(self, item: TreeItem) -> None:

        def attempt(_: int) -> None:
            tx = Transaction(self._connection)
            tx.put("tree", item, condition=TreeItem.pk.does_not_exist())
            try:
                tx.commit()
            except Refused:
                return

        self._retry(attempt)

    # Reads

    def root(self, tree_id: str) -> Root:
        return self._retry(lambda _: self._root(tree_id))

    def file(self, tree_id: str, path: str) -> TreeFile | None:
        def read(_: int) -> TreeFile | None:
            with transient_errors_as_busy():
                try:
                    return TreeFileItem.get(tree_key(tree_id), file_key(path), consistent_read=True).file()
                except DoesNotExist:
                    return None

        return self._retry(read)

    def holds(self, tree_id: str, path: str, key: str) -> bool:
        file = self.file(tree_id, path)
        return file is not None and file.key == key

    def files(self, tree_id: str, prefix: str = "") -> Iterator[TreeFile]:
        if prefix and (itself := self.file(tree_id, prefix)):
            yield itself
        first = below = f"{FILES}{prefix}/" if prefix else FILES
        while page := self._page(tree_id, first, below, PAGE):
            yield from page
            if len(page) < PAGE:
                return
            first = f"{file_key(page[-1].path)}{BEHIND}"

    def entries(self, tree_id: str, directory: str, limit: int) -> Sequence[Entry]:
        first = below = f"{FILES}{directory}/" if directory else FILES
        found: dict[str, Entry] = {}
        count = GLANCE
        while len(found) <= limit and (page := self._page(tree_id, first, below, count)):
            for file in page:
                name, slash, _ = relative(file.path, directory).partition("/")
                found[name] = Entry(name=name) if slash else found.get(name, Entry(name=name, size=file.size))
            if len(page) < count:
                break
            # What is left of a directory is passed over, whatever it holds.
            first = f"{below}{name}{AFTER_SLASH}" if slash else f"{file_key(page[-1].path)}{BEHIND}"
            count = GLANCE if slash else PAGE
        return [found[name] for name in sorted(found)][: limit + 1]

    def listed(self, tree_id: str, prefix: str) -> tuple[Tree, int] | None:
        # The count first: what is written from now on makes it another.
        changes = self.root(tree_id).changes
        tree = artifact_of(tree_id, prefix, self.files(tree_id, prefix))
        return (tree, changes) if tree else None

    def upload(self, tree_id: str, upload_id: str) -> TreeUpload | None:
        def read(_: int) -> TreeUpload | None:
            with transient_errors_as_busy():
                try:
                    item = TreeUploadItem.get(tree_key(tree_id), tree_upload_key(upload_id), consistent_read=True)
                except DoesNotExist:
                    return None
            return item.stored_upload() if item.ttl > self._clock().timestamp() else None

        return self._retry(read)

    # Writes

    def put(self, tree_id: str, file: TreeFile, upload: TreeUpload | None = None) -> None:
        def attempt(_: int) -> None:
            tx = Transaction(self._connection)
            tree = TreeItem(tree_key(tree_id), META)
            tx.update("tree", tree, [TreeItem.changes.add(1)], condition=_is_open(file.path))
            tx.put("file", TreeFileItem.of(tree_id, file))
            if upload:
                row = TreeUploadItem(tree_key(tree_id), tree_upload_key(upload.id))
                is_new = TreeUploadItem.pk.exists() & TreeUploadItem.completed.does_not_exist()
                tx.update("upload", row, [TreeUploadItem.completed.set(True)], condition=is_new)
            try:
                tx.commit()
            except Refused as exc:
                if upload and self._is_completed(upload):
                    # By an attempt whose answer was lost, or by the same request at the same time.
                    return
                if "tree" in exc.items:
                    self._tell_why_not(tree_id, file.path)
                raise NotFound(
                    f"There is no upload {shown(upload.id) if upload else ''} of this file any more."
                ) from exc

        self._retry(attempt)

    def remove(self, tree_id: str, path: str) -> int:
        removed = 0
        while count := self._retry(lambda _: self._remove_some(tree_id, path)):
            removed += count
            if count < MAX_REMOVED_AT_ONCE:
                break
        return removed

    def close(self, tree_id: str) -> None:
        tree = TreeItem(tree_key(tree_id), META)
        self._retry(lambda _: updated(tree, [TreeItem.sealed.add({sealed_path("")})], TreeItem.pk.exists()))

    def dissolve(self, tree_id: str, path: str) -> None:
        def write(_: int) -> None:
            with transient_errors_as_busy():
                TreeFileItem(tree_key(tree_id), file_key(path)).delete()

        self._retry(write)
        if not self._page(tree_id, FILES, FILES, 1):
            self._retry(lambda _: self._drop(tree_id))

    def begin(self, upload: TreeUpload) -> None:
        item = TreeUploadItem.of(upload, self._clock() + REMEMBERED)

        def write(_: int) -> None:
            with transient_errors_as_busy():
                item.save()

        self._retry(write)

    def forget(self, upload: TreeUpload) -> None:
        def write(_: int) -> None:
            with transient_errors_as_busy():
                TreeUploadItem(tree_key(upload.tree_id), tree_upload_key(upload.id)).delete()

        self._retry(write)

    # Steps of them

    def _drop(self, tree_id: str) -> None:
        with transient_errors_as_busy():
            TreeItem(tree_key(tree_id), META).delete()

    def _root(self, tree_id: str) -> Root:
        with transient_errors_as_busy():
            try:
                return TreeItem.get(tree_key(tree_id), META, consistent_read=True).root()
            except DoesNotExist as exc:
                raise NotFound(f"No such artifact: there is no tree '{shown(tree_id)}'.") from exc

    def _page(self, tree_id: str, first: str, below: str, count: int) -> Sequence[TreeFile]:
        """The next files from a key on, of those below another one."""

        def read(_: int) -> Sequence[TreeFile]:
            # Every path below it sorts before the last character there is.
            span = TreeFileItem.sk.between(first, f"{below}\U0010ffff")
            with transient_errors_as_busy():
                rows = TreeFileItem.query(tree_key(tree_id), span, limit=count, consistent_read=True)
                return [row.file() for row in rows]

        return self._retry(read)

    def _is_completed(self, upload: TreeUpload) -> bool:
        stored = self.upload(upload.tree_id, upload.id)
        return stored is not None and stored.is_completed

    def _remove_some(self, tree_id: str, path: str) -> int:
        root = self._root(tree_id)
        if root.is_sealed(path) or root.holds_sealed(path):
            raise InvalidInput("path", sealed_text(path))
        doomed: list[TreeFile] = []
        for file in self.files(tree_id, path):
            doomed.append(file)
            if len(doomed) == MAX_REMOVED_AT_ONCE:
                break
        if not doomed:
            return 0
        tx = Transaction(self._connection)
        is_as_read: Condition = TreeItem.changes == root.changes
        for number, file in enumerate(doomed):
            tx.delete(f"file {number}", TreeFileItem(tree_key(tree_id), file_key(file.path)))
        # Nothing was sealed meanwhile: a path that is sealed once stays so.
        sealed: Condition = TreeItem.sealed.does_not_exist()
        if root.sealed:
            sealed = size(TreeItem.sealed) == len(root.sealed)  # type: ignore[no-untyped-call]
        tx.update("tree", TreeItem(tree_key(tree_id), META), [TreeItem.changes.add(1)], condition=is_as_read & sealed)
        try:
            tx.commit()
        except Refused as exc:
            raise LostRace("the tree was changed meanwhile") from exc
        return len(doomed)

    def _tell_why_not(self, tree_id: str, path: str) -> None:
        """Raises NotFound, or InvalidInput if it is sealed."""
        if self._root(tree_id).is_sealed(path):
            raise InvalidInput("path", sealed_text(path))


def _is_open(path: str) -> Condition:
    """The tree is there, and neither this path nor one above it is sealed."""
    condition: Condition = TreeItem.pk.exists()
    for sealed in sealing(path):
        condition = condition & ~TreeItem.sealed.contains(sealed)
    return condition
