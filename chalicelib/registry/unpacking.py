"""Unpacks a registered archive into a tree, when a client of MLflow first asks for its files. Once, and for good.

The archive was inspected when it was registered, and is inspected again: nothing is taken from it that its directory
does not say. Each file becomes an object of its own. What there was no time for, the next errand goes on with.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from typing import BinaryIO, cast

from chalicelib.registry.archives import inspect_archive
from chalicelib.registry.errands import Errand, ErrandKind, Errands
from chalicelib.registry.errors import InvalidArchive, InvalidInput, NotFound, RegistryError, Unavailable
from chalicelib.registry.making import GRACE, Made, Making
from chalicelib.registry.marks import FileMark
from chalicelib.registry.models import ZIP, File
from chalicelib.registry.ports import Blobs, Catalog
from chalicelib.registry.service import base_name
from chalicelib.registry.trees import UNPACKED, TreeFile, Trees, checked_path
from chalicelib.registry.zip_reader import Entry, RangeReader, content, read_directory

WAIT_SECONDS = 15.0
RETRY_AFTER_SECONDS = 5
BUFFER_BYTES = 8 * 1024**2
RESERVE_MILLISECONDS = 60_000  # what is begun then may not end in time
MEDIA_TYPE = "application/octet-stream"
ML_MODEL = "MLmodel"


def unpacked_tree_id(key: str) -> str:
    """The tree into which the archive with this key is unpacked. Copies have the same object, and so the same tree."""
    return f"{UNPACKED}{sha256(key.encode()).hexdigest()[:48]}"


class Unpacking:
    """Has archives unpacked, and unpacks them."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        trees: Trees,
        making: Making,
        errands: Callable[[], Errands],
        clock: Callable[[], datetime],
        new_ulid: Callable[[], str],
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._trees = trees
        self._making = making
        self._errands = errands
        self._clock = clock
        self._new_ulid = new_ulid

    def tree_of(self, model_id: str, archive: File) -> str:
        """The tree that holds the files of an archive, which a version has.

        Raises Unavailable while it is being unpacked, NotHere if it cannot be.
        """
        tree_id = unpacked_tree_id(archive.key)
        if self._making.wanted(ErrandKind.UNPACK, tree_id, model_id, WAIT_SECONDS):
            return tree_id
        raise Unavailable(
            "The archive is being unpacked, which is done once: ask again in a moment.", RETRY_AFTER_SECONDS
        )

    def unpack(self, model_id: str, remaining_milliseconds: Callable[[], int]) -> None:
        """Unpack the archive of a version, or a part of it and ask for the rest. Twice does no harm."""
        try:
            archive = self._catalog.version(model_id).artifact
        except NotFound:
            return
        if not isinstance(archive, File) or archive.media_type != ZIP:
            return
        tree_id, holder, at = unpacked_tree_id(archive.key), self._new_ulid(), self._clock()
        makings = self._making.makings
        until = at + timedelta(milliseconds=remaining_milliseconds()) + GRACE
        if not makings.take(ErrandKind.UNPACK, tree_id, holder, at, until):
            return
        try:
            is_whole = self._unpacked(archive, tree_id, lambda: remaining_milliseconds() > RESERVE_MILLISECONDS)
        except (InvalidArchive, InvalidInput) as exc:
            makings.finish(ErrandKind.UNPACK, tree_id, holder, Made(why=f"The archive cannot be unpacked: {exc}"))
            return
        except Exception:
            with suppress(RegistryError):
                makings.let_go(ErrandKind.UNPACK, tree_id, holder)
            raise
        if is_whole:
            makings.finish(ErrandKind.UNPACK, tree_id, holder, Made(is_done=True))
        else:
            makings.let_go(ErrandKind.UNPACK, tree_id, holder)
            self._errands().queue(Errand(kind=ErrandKind.UNPACK, subject=model_id))

    def _unpacked(self, archive: File, tree_id: str, is_time_left: Callable[[], bool]) -> bool:
        """Whether all its files are in the tree now. Raises InvalidArchive and InvalidInput."""
        file = cast(
            "BinaryIO",
            io.BufferedReader(cast("io.RawIOBase", self._blobs.opened(archive.key, archive.size)), BUFFER_BYTES),
        )
        inspect_archive(file)
        reader = RangeReader(file)
        wanted = _named(read_directory(reader).entries)
        self._trees.unpacked(tree_id, archive.key)
        there = {file.path: file.size for file in self._trees.files(tree_id)}
        for path, entry in wanted:
            if there.get(path) == entry.size_bytes:
                continue
            if not is_time_left():
                return False
            self._store(tree_id, path, content(reader, entry))
        self._trees.close(tree_id)
        return True

    def _store(self, tree_id: str, path: str, chunks: Iterable[bytes]) -> None:
        key = f"artifacts/{self._new_ulid()}/{base_name(path)}"
        poured = self._blobs.pour(key, chunks, MEDIA_TYPE, str(FileMark(tree_id, path)))
        self._trees.put(tree_id, TreeFile(path=path, key=key, size=poured.size))


def _named(entries: Sequence[Entry]) -> list[tuple[str, Entry]]:
    """The files and the paths that they get, in the order of the archive. Raises InvalidInput.

    Is all in one directory, and the description of a model of MLflow with it, then that directory is the model.
    """
    files = [entry for entry in entries if not entry.is_folder]
    top = _common_top(files)
    return [(checked_path(entry.path.removeprefix(top)), entry) for entry in sorted(files, key=lambda one: one.offset)]


def _common_top(files: Sequence[Entry]) -> str:
    tops = {entry.path.partition("/")[0] for entry in files}
    if len(tops) != 1:
        return ""
    top = f"{tops.pop()}/"
    return top if any(entry.path == f"{top}{ML_MODEL}" for entry in files) else ""
