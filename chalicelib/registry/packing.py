"""Packs a tree as one ZIP, for clients that know a model as an archive. Once for all trees with the same files.

The archive is written while the files are read: little is in memory, whatever its size. It is the same bytes each time:
paths in order, one time, nothing compressed, for weights hardly shrink. Its first entry is the folder that all files
are in: clients in the field leave away the name of the first entry wherever it occurs, unless `deployment` is in it.
"""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count

from chalicelib.registry.errands import ErrandKind
from chalicelib.registry.errors import NotFound, RegistryError, TooLarge, Unavailable
from chalicelib.registry.making import GRACE, Made, Making
from chalicelib.registry.marks import PackMark
from chalicelib.registry.models import ZIP, File, Tree
from chalicelib.registry.ports import Blobs, Catalog
from chalicelib.registry.trees import TreeFile, Trees, artifact_of, relative

WAIT_SECONDS = 15.0
READ_BYTES = 8 * 1024**2
EPOCH = (1980, 1, 1, 0, 0, 0)
FILE_NAME = "model.zip"


class Packing:
    """Has trees packed, and packs them."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        trees: Trees,
        making: Making,
        clock: Callable[[], datetime],
        new_ulid: Callable[[], str],
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._trees = trees
        self._making = making
        self._clock = clock
        self._new_ulid = new_ulid

    def archive(self, model_id: str, tree: Tree) -> File | None:
        """All files of a tree, which a version has, as one archive; None while it is being packed.

        Raises NotHere if it cannot be packed, Unavailable.
        """
        made = self._making.wanted(ErrandKind.PACK, tree.digest, model_id, WAIT_SECONDS)
        if made and made.key and self._blobs.stored(made.key) is None:
            # Somebody removed it by hand.
            self._making.makings.undo(ErrandKind.PACK, tree.digest, made)
            made = self._making.wanted(ErrandKind.PACK, tree.digest, model_id, WAIT_SECONDS)
        if made is None or made.key is None:
            return None
        return File(
            key=made.key,
            file_name=FILE_NAME,
            media_type=ZIP,
            size=made.size,
            sha256=made.sha256,
            sha256_checked_by="registry",
        )

    def pack(self, model_id: str, remaining_milliseconds: Callable[[], int]) -> None:
        """Pack the tree of a version. Twice does no harm. Raises Unavailable."""
        try:
            tree = self._catalog.version(model_id).artifact
        except NotFound:
            return
        if not isinstance(tree, Tree):
            return
        makings, holder, at = self._making.makings, self._new_ulid(), self._clock()
        until = at + timedelta(milliseconds=remaining_milliseconds()) + GRACE
        if not makings.take(ErrandKind.PACK, tree.digest, holder, at, until):
            return
        try:
            made = self._packed(tree)
        except TooLarge as exc:
            made = Made(why=f"The files cannot be packed as one archive: {exc}")
        except Exception:
            with suppress(RegistryError):
                makings.let_go(ErrandKind.PACK, tree.digest, holder)
            raise
        # Was the lease lost meanwhile, then so is the object: the sweep finds it.
        makings.finish(ErrandKind.PACK, tree.digest, holder, made)

    def _packed(self, tree: Tree) -> Made:
        files = list(self._trees.files(tree.tree_id, tree.prefix))
        listed = artifact_of(tree.tree_id, tree.prefix, files)
        if listed is None or listed.digest != tree.digest:
            raise Unavailable("The files of the tree are not those that were registered: the doctor may know why.")
        key = f"artifacts/{self._new_ulid()}/{FILE_NAME}"
        chunks = archive_of([(relative(file.path, tree.prefix), file) for file in files], self._chunks)
        poured = self._blobs.pour(key, chunks, ZIP, str(PackMark(tree.digest)))
        return Made(is_done=True, key=key, size=poured.size, sha256=poured.sha256)

    def _chunks(self, file: TreeFile) -> Iterator[bytes]:
        stored = self._blobs.opened(file.key, file.size)
        left = file.size
        while left and (piece := stored.read(min(READ_BYTES, left))):
            left -= len(piece)
            yield piece
        if left:
            raise Unavailable(f"The object of '{file.name}' is shorter than it was: try again.")


def archive_of(
    files: Sequence[tuple[str, TreeFile]], chunks_of: Callable[[TreeFile], Iterator[bytes]]
) -> Iterator[bytes]:
    """The bytes of an archive of these files, whose paths are in order, as they come."""
    written = _Written()
    folder = folder_for([path for path, _ in files])
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry(folder, 0o40755 << 16 | 0x10), b"")
        for path, file in files:
            entry = _entry(f"{folder}{path}", 0o100644 << 16)
            entry.file_size = file.size  # so that it is known whether sizes need eight bytes
            with archive.open(entry, "w") as target:
                for chunk in chunks_of(file):
                    target.write(chunk)
                    yield from written.taken()
            yield from written.taken()
    yield from written.taken()


def folder_for(paths: Sequence[str]) -> str:
    """The folder that all files are put into: one whose name is in none of their paths."""
    names = ("model/" if number == 0 else f"model-{number}/" for number in count())
    return next(name for name in names if not any(name in path for path in paths))


def _entry(path: str, attributes: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, EPOCH)
    entry.create_system = 3  # Unix, wherever this runs
    entry.external_attr = attributes
    return entry


class _Written(io.RawIOBase):
    """Takes what is written and gives it on; it cannot be sought in, so sizes come behind the contents."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        self._pieces.append(bytes(piece))
        return len(piece)

    def taken(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces
