"""Whether an object is still somebody's, as its mark says whose it may be (marks.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from chalicelib.registry.errands import ErrandKind
from chalicelib.registry.errors import NotFound
from chalicelib.registry.marks import FileMark, ModelMark, PackMark, mark_of

if TYPE_CHECKING:
    from chalicelib.registry.making import Makings
    from chalicelib.registry.ports import Blobs, Catalog
    from chalicelib.registry.trees import Trees


class Keeping(Protocol):
    """Knows what is named."""

    def keeps(self, key: str, mark: str) -> bool:
        """Whether a record names this object. Raises Unavailable."""


class Owners:
    """Keeping, by asking those for whom objects are written."""

    def __init__(self, catalog: Catalog, blobs: Blobs, trees: Trees, makings: Makings) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._trees = trees
        self._makings = makings

    def keeps(self, key: str, mark: str) -> bool:
        match mark_of(mark):
            case ModelMark(model_id):
                return self._catalog.key_named_by(model_id) == key or self._catalog.is_held(key)
            case FileMark() as file:
                return self._trees.holds(file.tree_id, file.path, key) and self._is_of_use(file)
            case PackMark(digest):
                return self._makings.made(ErrandKind.PACK, digest).key == key
            case None:
                # Nobody wrote that here: it is not ours to remove.
                return True

    def _is_of_use(self, file: FileMark) -> bool:
        """What was unpacked goes with its archive, the record that names it first."""
        if not file.is_unpacked:
            return True
        try:
            source = self._trees.root(file.tree_id).source
        except NotFound:
            source = None
        if source and self._blobs.stored(source):
            return True
        self._makings.undo(ErrandKind.UNPACK, file.tree_id, self._makings.made(ErrandKind.UNPACK, file.tree_id))
        self._trees.dissolve(file.tree_id, file.path)
        return False
