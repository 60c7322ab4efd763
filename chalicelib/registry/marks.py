"""What an object is marked with: for whom it was written. The sweep asks them whether they still have it. Pure.

| mark | written for | it is kept |
|---|---|---|
| `{id of a model}` | a version, or an upload | while the version or the open upload names it, or a copy |
| `tree/{tree id}/{path}` | a file of a run or of a logged model | while the file of this path is this object |
| `files/{tree id}/{path}` | a file unpacked from an archive | likewise, while the archive is there |
| `zip/{digest}` | all files of a tree, packed | for good: who has the same files gets it again |

Paths stand in URL-safe base64, since a mark is a header. A mark that means nothing here keeps its object.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from typing import NamedTuple

from chalicelib.registry.trees import UNPACKED


class FileMark(NamedTuple):
    """A file of a tree."""

    tree_id: str
    path: str

    @property
    def is_unpacked(self) -> bool:
        return self.tree_id.startswith(UNPACKED)

    def __str__(self) -> str:
        kind = "files" if self.is_unpacked else "tree"
        return f"{kind}/{self.tree_id}/{urlsafe_b64encode(self.path.encode()).decode()}"


class PackMark(NamedTuple):
    """All files of a tree, as one archive."""

    digest: str

    def __str__(self) -> str:
        return f"zip/{self.digest}"


class ModelMark(NamedTuple):
    """A version, or the upload that is to be one."""

    model_id: str

    def __str__(self) -> str:
        return self.model_id


Mark = FileMark | PackMark | ModelMark


def mark_of(text: str) -> Mark | None:
    """What a mark says; None if it is none of ours."""
    match text.split("/"):
        case [model_id]:
            return ModelMark(model_id)
        case ["zip", digest]:
            return PackMark(digest)
        case ["tree" | "files" as kind, tree_id, path]:
            try:
                mark = FileMark(tree_id, urlsafe_b64decode(path).decode())
            except (Error, ValueError):
                return None
            return mark if mark.is_unpacked == (kind == "files") else None
    return None
