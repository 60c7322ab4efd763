"""What the domain asks of the outside. `store/` answers with DynamoDB and S3, the tests with memory.

One contract suite (tests/contract) holds for every implementation.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import BinaryIO, Protocol

from chalicelib.registry.audit import Event
from chalicelib.registry.models import Actor, Draft, File, Filters, Head, ModelVersion, Page, Placement


class Catalog(Protocol):
    """The records. Every change and its event are stored together or not at all.

    Reads see every change that was acknowledged before. Lost races and throttling are retried inside, for ten
    seconds; then Unavailable is raised and nothing was changed. If that cannot be said, since an answer was lost, it
    is OutcomeUnknown. Any other error says that nothing was changed, and nothing will be.
    """

    def ping(self) -> None:
        """Raises Unavailable if the store does not answer."""

    def version(self, model_id: str) -> ModelVersion:
        """Raises NotFound."""

    def search(self, filters: Filters, limit: int, after: str | None = None) -> Page:
        """Newest first, at most `limit`, from behind the position `after`; may end early, with a position."""

    def place(self, draft: Draft) -> Placement:
        """Where this version may stand. Raises Conflict if its id or its claim is taken."""

    def add(self, version: ModelVersion, placement: Placement, by: Actor) -> ModelVersion:
        """Store a new version; returned with the number it really got. Raises Conflict."""

    def change(
        self,
        model_id: str,
        edit: Callable[[ModelVersion], ModelVersion],
        by: Actor,
        at: datetime,
        if_revision: int | None = None,
    ) -> tuple[ModelVersion, ModelVersion]:
        """Replace a version by `edit` of its current state; both states. Without a difference, nothing is written.

        `edit` may be called again when a race was lost, unless if_revision is given: then StaleRevision is raised.
        Raises NotFound, Conflict, and what `edit` raises.
        """

    def remove(self, model_id: str, by: Actor, at: datetime) -> ModelVersion:
        """Remove a version and free its claim; its last state. Raises NotFound."""

    def events(self, subject: str) -> tuple[Sequence[Event], Head]:
        """All events of a subject in order, up to the head that its record keeps, and that. Raises NotFound."""


class Blobs(Protocol):
    """The objects. A key is written once and never again."""

    def ping(self) -> None:
        """Raises Unavailable if the store does not answer."""

    def put(self, key: str, body: BinaryIO, size: int, sha256: str, media_type: str) -> str:
        """Store an object; its version id. Raises Unavailable."""

    def discard(self, key: str, version_id: str) -> None:
        """Remove an object that no record names, for good. Never raises for a failing store: a sweep follows."""

    def remove(self, key: str) -> None:
        """Remove the object of a deleted record. Never raises for a failing store: a sweep follows."""

    def download_url(self, file: File) -> str:
        """A URL that serves the bytes, with file name and type, for a limited time. It is a secret."""
