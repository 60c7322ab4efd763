"""Trees of files, as clients of MLflow fill and read them: their paths, what is in them, whose they are. Pure.

A tree belongs to a run or a logged model, or to the archive that it was unpacked from. Its files point at objects. A
file that is written again points at another object; one below a sealed path never changes again. Paths come from
outside: none of them is ever part of a key of S3.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from json import dumps
from typing import NamedTuple, Protocol
from urllib.parse import unquote

from chalicelib.registry.errors import InvalidInput, NotFound, shown
from chalicelib.registry.models import Frozen, Tree

MAX_PATH_BYTES = 1000  # a sort key may have 1,024
MAX_SEGMENT_BYTES = 255  # as file systems have it
MAX_DEPTH = 32
MAX_FILES = 10_000  # of what is registered: as many as an archive may hold
UNPACKED = "files-"  # begins the ids of trees that were unpacked from archives; no other id begins so
ID_FORM = re.compile(r"[A-Za-z0-9_-]{1,64}")
# What no path may hold: what separates elsewhere, what begins a fragment, and what is not to be seen.
_UNFIT = re.compile(r"[\\#\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class TreeFile(Frozen):
    """A file of a tree, and the object that it is now."""

    path: str
    key: str
    size: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Entry(Frozen):
    """What is in a directory: a file of a size, or a directory."""

    name: str
    size: int | None = None

    @property
    def is_directory(self) -> bool:
        return self.size is None


class Root(Frozen):
    """A tree as a whole: whose it is, how often its files were written, and below which paths nothing changes."""

    tree_id: str
    project_id: str | None = None
    project_name: str | None = None
    changes: int = 0
    sealed: frozenset[str] = frozenset()
    # The object that it was unpacked from.
    source: str | None = None

    def is_sealed(self, path: str) -> bool:
        return not self.sealed.isdisjoint(sealing(path))

    def holds_sealed(self, path: str) -> bool:
        """Whether something at or below this path is sealed."""
        return any(within(sealed.rstrip("/"), path) for sealed in self.sealed)


class TreeUpload(Frozen):
    """A file on its way into a tree, in parts. What a client is told of it is its id alone."""

    id: str
    tree_id: str
    path: str
    key: str
    multipart_id: str
    part_count: int
    is_completed: bool = False


class Trees(Protocol):
    """The trees. All reads see every write that was acknowledged before. Raises Unavailable."""

    def created(self, tree_id: str, project_id: str | None, project_name: str | None) -> None:
        """Have a tree, empty as yet. Had before, it stays as it is."""

    def unpacked(self, tree_id: str, source: str) -> None:
        """Have a tree for what is unpacked from this object, likewise."""

    def close(self, tree_id: str) -> None:
        """Have nothing of a tree ever change again."""

    def dissolve(self, tree_id: str, path: str) -> None:
        """Remove a file of a tree whose archive has gone."""

    def root(self, tree_id: str) -> Root:
        """Raises NotFound."""

    def file(self, tree_id: str, path: str) -> TreeFile | None:
        """The file at this path."""

    def files(self, tree_id: str, prefix: str = "") -> Iterator[TreeFile]:
        """The file at this path, or all below it, in order of their paths; read as they are taken."""

    def entries(self, tree_id: str, directory: str, limit: int) -> Sequence[Entry]:
        """What is in a directory, in order, one more than `limit` at most; nothing of what is deeper is read."""

    def listed(self, tree_id: str, prefix: str) -> tuple[Tree, int] | None:
        """A path of a tree as an artifact, and the count of changes at which it was so; None if there are no files.

        Raises InvalidInput if there are too many.
        """

    def put(self, tree_id: str, file: TreeFile, upload: TreeUpload | None = None) -> None:
        """Point a path at an object, and end the upload by which it came. Raises NotFound, InvalidInput if sealed."""

    def remove(self, tree_id: str, path: str) -> int:
        """Remove the file at a path, or all below it; how many. Raises NotFound, InvalidInput if any is sealed."""

    def begin(self, upload: TreeUpload) -> None:
        """Remember an upload, for as long as its parts may be sent."""

    def upload(self, tree_id: str, upload_id: str) -> TreeUpload | None:
        """One that was begun and is not forgotten."""

    def forget(self, upload: TreeUpload) -> None:
        """Forget one that was aborted."""

    def holds(self, tree_id: str, path: str, key: str) -> bool:
        """Whether the file at this path is this object."""


def within(path: str, prefix: str) -> bool:
    """Whether a path is this one or below it; all are below the empty one."""
    return not prefix or path == prefix or path.startswith(f"{prefix}/")


def relative(path: str, prefix: str) -> str:
    """A path as it is called from here: a file that is meant itself has its name alone."""
    if path == prefix:
        return path.rpartition("/")[2]
    return path.removeprefix(f"{prefix}/") if prefix else path


def sealing(path: str) -> list[str]:
    """Every sealed path that would keep this one from changing: those of its directories, and its own."""
    segments = path.split("/") if path else []
    return ["/".join(segments[:count]) + "/" for count in range(len(segments) + 1)]


def sealed_text(path: str) -> str:
    """Why a path cannot be written."""
    return (
        f"'{shown(path)}' belongs to a registered model version, which never changes: write to another path, or log the"
        " model anew."
    )


def checked_path(path: str) -> str:
    """A path below the root of a tree, any depth; empty for the root. Raises InvalidInput."""
    if not path:
        return ""
    if _UNFIT.search(path):
        raise InvalidInput("path", f"Invalid path: '{shown(path)}' has a character that no path may have.")
    plain = path
    for _ in range(4):
        _check_segments(plain, path)
        if (once_more := unquote(plain)) == plain:
            break
        plain = once_more
    if len(path.encode()) > MAX_PATH_BYTES or path.count("/") >= MAX_DEPTH:
        raise InvalidInput("path", f"Invalid path: at most {MAX_PATH_BYTES} bytes and {MAX_DEPTH} levels are accepted.")
    if any(len(segment.encode()) > MAX_SEGMENT_BYTES for segment in path.split("/")):
        raise InvalidInput("path", f"Invalid path: a name in it may have {MAX_SEGMENT_BYTES} bytes.")
    return path


def _check_segments(plain: str, stated: str) -> None:
    if any(segment in ("", ".", "..") for segment in plain.split("/")) or "\\" in plain:
        raise InvalidInput("path", f"Invalid path: '{shown(stated)}'.")


def artifact_of(tree_id: str, prefix: str, files: Iterable[TreeFile]) -> Tree | None:
    """The artifact that these files are, which come in order; None without any.

    Raises InvalidInput if they are too many, or no file system could hold them.
    """
    digest, size, paths = sha256(), 0, set[str]()
    for file in files:
        path = relative(file.path, prefix)
        digest.update(dumps([path, file.key]).encode() + b"\n")
        size += file.size
        # What is above a path comes before it.
        if not paths.isdisjoint(_directories(path)):
            raise InvalidInput("source", f"'{shown(path)}' is in a directory that is a file too: remove one of them.")
        paths.add(path)
        if len(paths) > MAX_FILES:
            raise InvalidInput("source", f"There are more than {MAX_FILES:,} files below '{shown(prefix)}'.")
    if not paths:
        return None
    return Tree(tree_id=tree_id, prefix=prefix, file_count=len(paths), size=size, digest=digest.hexdigest())


def _directories(path: str) -> list[str]:
    segments = path.split("/")
    return ["/".join(segments[:count]) for count in range(1, len(segments))]


class TreePlace(NamedTuple):
    """A path in the tree of a run or of a logged model."""

    tree_id: str
    path: str


class VersionPlace(NamedTuple):
    """A path in the artifact of a registered version."""

    model_id: str
    path: str


def place_of(stated: str) -> TreePlace | VersionPlace:
    """What a path behind `mlflow-artifacts:/` names.

    Those that are given out are `{experiment id}/models/{id}/artifacts`, `{experiment id}/{run id}/artifacts` and
    `versions/{id}/artifacts`. To which experiment a run belongs decides nothing: only its form is checked. Raises
    InvalidInput, and NotFound for a place that there cannot be.
    """
    path = stated.rstrip("/")
    outside = NotFound(f"No such artifact: '{shown(path)}'")
    segments = path.split("/")
    at = 3 if segments[1:2] == ["models"] else 2
    if len(segments) <= at or segments[at] != "artifacts":
        checked_path(path)
        raise outside
    within_it = checked_path("/".join(segments[at + 1 :]))
    if segments[0] == "versions" and at == 2:
        return VersionPlace(segments[1], within_it)
    if not all(ID_FORM.fullmatch(one) for one in (segments[0], segments[at - 1])):
        raise outside
    if segments[at - 1].startswith(UNPACKED):
        raise outside
    return TreePlace(segments[at - 1], within_it)
