"""Puts files into trees and hands them out, for who may: bytes first, record last, as with models.

A file comes in one piece, if it is small, or in parts that the client sends to S3 itself; the client states no digest,
so what it says of its parts is compared with what S3 has. Who may not see the project of a tree, or the version that an
artifact belongs to, is told what is told of something that is not there. A token that is limited by names only sees
every tree whose id it knows: trees have no names.
"""

import io
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Protocol

from chalicelib.registry.access import Actor
from chalicelib.registry.errors import InvalidInput, NotFound, RegistryError, TooLarge, UploadIncomplete, shown
from chalicelib.registry.marks import FileMark
from chalicelib.registry.models import ZIP, File, Frozen, ModelVersion
from chalicelib.registry.ports import Blobs
from chalicelib.registry.service import Registry, base_name
from chalicelib.registry.trees import Entry, Root, TreeFile, TreePlace, Trees, TreeUpload, VersionPlace, sealed_text
from chalicelib.registry.unpacking import Unpacking
from chalicelib.registry.uploads import MAX_PARTS, Part

MEDIA_TYPE = "application/octet-stream"
MAX_LISTED = 20_000  # in one directory: an answer has 6 MB
MAX_URLS_BYTES = 5_000_000  # likewise
Place = TreePlace | VersionPlace


class StatedPart(Frozen):
    """A part as the client says that it sent it."""

    number: int
    etag: str


class Bin(Blobs, Protocol):
    """What is asked of S3 beside what versions need."""

    def begin(self, key: str, media_type: str, model_id: str, is_checked: bool = True) -> str:
        """Begin an object of several parts, marked; what S3 calls it."""

    def part_url(self, key: str, multipart_id: str, number: int) -> str:
        """Where to send a part whose digest nobody states. It is a secret."""

    def sent(self, key: str, multipart_id: str) -> Sequence[Part] | None:
        """The parts that are there; None once they are joined or dropped."""

    def join_parts(self, key: str, multipart_id: str, parts: Sequence[Part]) -> None:
        """Make the object, unless the parts are gone: the object tells. Raises UploadIncomplete."""

    def drop(self, key: str, multipart_id: str) -> None:
        """Forget what was sent, if anything."""

    def url_of(self, key: str, file_name: str, media_type: str) -> str:
        """A URL that serves the bytes under this name and type, for a limited time. It is a secret."""


class Planting:
    """What a client of MLflow does with artifacts. All of it raises NotFound, and Unavailable."""

    def __init__(
        self, registry: Registry, trees: Trees, bin_: Bin, unpacking: Unpacking, new_ulid: Callable[[], str]
    ) -> None:
        self._registry = registry
        self._trees = trees
        self._bin = bin_
        self._unpacking = unpacking
        self._new_ulid = new_ulid

    def entries(self, place: Place, by: Actor) -> Sequence[Entry]:
        """What is in a directory; nothing for what is none. Raises TooLarge."""
        where = self._where(place, by)
        if isinstance(where, File):
            return [] if place.path else [Entry(name=where.file_name, size=where.size)]
        tree_id, path = where
        found = self._trees.entries(tree_id, path, MAX_LISTED)
        if len(found) > MAX_LISTED:
            raise TooLarge(f"There are more than {MAX_LISTED:,} files in '{shown(place.path)}': they cannot be listed.")
        return found

    def file(self, place: Place, by: Actor) -> TreeFile:
        """The file at a place."""
        where = self._where(place, by)
        if isinstance(where, File):
            found = TreeFile(path=where.file_name, key=where.key, size=where.size)
            found_at = found if place.path == where.file_name else None
        else:
            tree_id, path = where
            found_at = self._trees.file(tree_id, path) if path else None
        if found_at is None:
            raise _absent(place)
        return found_at

    def url(self, file: TreeFile) -> str:
        """Where its bytes are, for a limited time. It is a secret."""
        return self._bin.url_of(file.key, base_name(file.name), MEDIA_TYPE)

    def put(self, place: Place, body: bytes, by: Actor) -> None:
        """Store a small file. Raises InvalidInput if it can never change again."""
        tree_id, path = self._open_place(place, by)
        key, mark = self._new_key(path), str(FileMark(tree_id, path))
        digest = sha256(body).hexdigest()
        version_id = self._bin.put(key, io.BytesIO(body), len(body), digest, MEDIA_TYPE, mark)
        self._record(tree_id, TreeFile(path=path, key=key, size=len(body)), None, version_id)

    def begin(self, place: Place, part_count: int, by: Actor) -> tuple[TreeUpload, Sequence[str]]:
        """Begin a file in parts, and the URL of each. Raises InvalidInput, TooLarge."""
        tree_id, path = self._open_place(place, by)
        if not 1 <= part_count <= MAX_PARTS:
            raise InvalidInput("num_parts", f"num_parts must be 1 to {MAX_PARTS:,}, got {part_count}. {LARGER_PARTS}")
        key = self._new_key(path)
        multipart_id = self._bin.begin(key, MEDIA_TYPE, str(FileMark(tree_id, path)), is_checked=False)
        upload = TreeUpload(
            id=self._new_ulid(),
            tree_id=tree_id,
            path=path,
            key=key,
            multipart_id=multipart_id,
            part_count=part_count,
        )
        try:
            urls = self._urls(upload)
            self._trees.begin(upload)
        except RegistryError:
            self._bin.drop(key, multipart_id)
            raise
        return upload, urls

    def complete(self, place: Place, upload_id: str, stated: Sequence[StatedPart], by: Actor) -> None:
        """Make the file of its parts. Done before, it stays done.

        Raises UploadIncomplete, and InvalidInput if the path can never change again: then nothing is left of it.
        """
        root, path = self._tree_place(place, by)
        upload = self._upload(root, path, upload_id)
        if upload.is_completed:
            return
        if root.is_sealed(path):
            self._bin.drop(upload.key, upload.multipart_id)
            raise InvalidInput("path", sealed_text(path))
        parts = self._bin.sent(upload.key, upload.multipart_id)
        if parts is not None:
            self._bin.join_parts(upload.key, upload.multipart_id, _compared(upload, stated, parts))
        stored = self._bin.stored(upload.key)
        if stored is None or stored.model_id != str(FileMark(root.tree_id, path)):
            raise UploadIncomplete("What was sent of the file is gone: upload it again.", [])
        file = TreeFile(path=path, key=upload.key, size=stored.size)
        self._record(root.tree_id, file, upload, stored.version_id)

    def abort(self, place: Place, upload_id: str, by: Actor) -> None:
        """Forget a file in parts. One that is complete stays."""
        root, path = self._tree_place(place, by)
        upload = self._trees.upload(root.tree_id, upload_id)
        if upload is None or upload.path != path or upload.is_completed:
            return
        self._bin.drop(upload.key, upload.multipart_id)
        self._trees.forget(upload)

    def remove(self, place: Place, by: Actor) -> int:
        """Remove a file, or a directory with all that is in it; how many files. Raises InvalidInput if it is sealed."""
        root, path = self._tree_place(place, by)
        return self._trees.remove(root.tree_id, path)

    def _where(self, place: Place, by: Actor) -> tuple[str, str] | File:
        """The tree and the path in it; or the file that is the whole artifact of a version."""
        if isinstance(place, TreePlace):
            return self._tree_place(place, by)[0].tree_id, place.path
        version = self._version(place, by)
        artifact = version.artifact_here()
        if isinstance(artifact, File):
            if artifact.media_type != ZIP:
                return artifact
            return self._unpacking.tree_of(version.id, artifact), place.path
        return artifact.tree_id, "/".join(part for part in (artifact.prefix, place.path) if part)

    def _version(self, place: VersionPlace, by: Actor) -> ModelVersion:
        try:
            return self._registry.version(place.model_id, by)
        except NotFound as exc:
            raise _absent(place) from exc

    def _tree_place(self, place: Place, by: Actor) -> tuple[Root, str]:
        if isinstance(place, VersionPlace):
            self._version(place, by)
            raise InvalidInput("path", sealed_text(place.path))
        try:
            root = self._trees.root(place.tree_id)
        except NotFound as exc:
            raise _absent(place) from exc
        if not by.access.sees_project(root.project_id, root.project_name):
            raise _absent(place)
        return root, place.path

    def _open_place(self, place: Place, by: Actor) -> tuple[str, str]:
        """Where a file may be put. Raises InvalidInput."""
        root, path = self._tree_place(place, by)
        if not path:
            raise InvalidInput("path", "Invalid path: it names no file.")
        if root.is_sealed(path):
            raise InvalidInput("path", sealed_text(path))
        return root.tree_id, path

    def _upload(self, root: Root, path: str, upload_id: str) -> TreeUpload:
        upload = self._trees.upload(root.tree_id, upload_id)
        if upload is None or upload.path != path:
            raise NotFound(f"There is no upload {shown(upload_id)} of '{shown(path)}' (any more): upload it again.")
        return upload

    def _record(self, tree_id: str, file: TreeFile, upload: TreeUpload | None, version_id: str) -> None:
        """The record, last of all. What is refused leaves no object; if that cannot be said, the sweep looks."""
        try:
            self._trees.put(tree_id, file, upload)
        except (InvalidInput, NotFound):
            self._bin.discard(file.key, version_id)
            raise

    def _new_key(self, path: str) -> str:
        return f"artifacts/{self._new_ulid()}/{base_name(path)}"

    def _urls(self, upload: TreeUpload) -> list[str]:
        first = self._bin.part_url(upload.key, upload.multipart_id, 1)
        if (len(first) + 64) * upload.part_count > MAX_URLS_BYTES:
            most = MAX_URLS_BYTES // (len(first) + 64)
            raise TooLarge(
                f"{upload.part_count:,} parts are more than one answer can tell of ({most:,}). {LARGER_PARTS}"
            )
        others = range(2, upload.part_count + 1)
        return [first, *(self._bin.part_url(upload.key, upload.multipart_id, number) for number in others)]


LARGER_PARTS = "Send larger parts: set MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE (bytes) where the client runs."


def _absent(place: Place) -> NotFound:
    return NotFound(f"No such artifact: '{shown(place.path)}'")


def _compared(upload: TreeUpload, stated: Sequence[StatedPart], there: Sequence[Part]) -> Sequence[Part]:
    """The parts that S3 has, if they are those that the client says. Raises UploadIncomplete."""
    etags = {part.number: part.etag.strip('"') for part in there}
    told = {part.number: part.etag.strip('"') for part in stated}
    wrong = [number for number in range(1, upload.part_count + 1) if etags.get(number) != told.get(number, "")]
    if wrong or told.keys() != set(range(1, upload.part_count + 1)):
        numbers = ", ".join(map(str, wrong[:10] or sorted(told)[:10]))
        raise UploadIncomplete(
            f"The upload began with {upload.part_count} parts, and S3 does not have them as stated ({numbers}): upload"
            " the file again.",
            wrong,
        )
    return there
