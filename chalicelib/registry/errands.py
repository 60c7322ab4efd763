"""Work that is asked for by a request and done by another function, as often as it takes. Pure.

An errand says only what is to be done for whom: it is read anew when it is run, so that one that comes twice, or late,
does no harm.
"""

from enum import StrEnum
from typing import Protocol

from chalicelib.registry.models import Frozen


class ErrandKind(StrEnum):
    REMOVE_VERSIONS = "remove_versions"  # of a deleted registered model: `subject` is its rm_id
    RENAME_VERSIONS = "rename_versions"  # of a renamed one
    PACK = "pack"  # a tree as one ZIP: `subject` is the id of a version that has it
    UNPACK = "unpack"  # a ZIP as a tree: likewise


class Errand(Frozen):
    """Something to do. `subject` says for whom."""

    kind: ErrandKind
    subject: str


class Errands(Protocol):
    """The queue of errands."""

    def queue(self, errand: Errand) -> None:
        """Have it done, soon. Raises Unavailable and NotConfigured."""
