"""What the domain asks of the outside. `store/` answers with DynamoDB and S3, the tests with memory.

One contract suite (tests/contract) holds for every implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO, Protocol

from chalicelib.registry.access import EVERYWHERE

if TYPE_CHECKING:
    from chalicelib.registry.access import Access, Actor
    from chalicelib.registry.audit import Event
    from chalicelib.registry.checkpoints import Checkpoint, Link
    from chalicelib.registry.errands import Errand
    from chalicelib.registry.models import Draft, File, Filters, Head, ModelVersion, Page, Placement, Stage
    from chalicelib.registry.numbering import NewVersion
    from chalicelib.registry.registered_models import RegisteredModel
    from chalicelib.registry.tokens import StoredToken, Token
    from chalicelib.registry.trail import TrailFilters, TrailPage
    from chalicelib.registry.uploads import Part, StoredObject, Upload, UploadState


class Catalog(Protocol):
    """The records. Every change and its event are stored together or not at all.

    Reads see every change that was acknowledged before. Lost races and throttling are retried inside, for ten
    seconds; then Unavailable is raised and nothing was changed. If that cannot be said, since an answer was lost, it
    is OutcomeUnknown. Any other error says that nothing was changed, and nothing will be.
    """

    @property
    def uploads(self) -> Uploads:
        """The uploads, which hold what versions need."""

    @property
    def registered_models(self) -> RegisteredModels:
        """What versions belong to."""

    @property
    def numbered(self) -> Numbered:
        """The versions by their numbers."""

    @property
    def tokens(self) -> Tokens:
        """The API tokens."""

    @property
    def trail(self) -> Trail:
        """What happened."""

    def ping(self) -> None:
        """Raises Unavailable if the store does not answer."""

    def version(self, model_id: str) -> ModelVersion:
        """Raises NotFound."""

    def versions(self, model_ids: Sequence[str]) -> Sequence[ModelVersion]:
        """Those of these versions that there are, in this order."""

    def search(self, filters: Filters, limit: int, after: str | None = None, within: Access = EVERYWHERE) -> Page:
        """Newest first, at most `limit`, from behind the position `after`; may end early, with a position.

        Nothing that `within` does not see has a part in it.
        """

    def place(self, draft: Draft, at: datetime) -> Placement:
        """Where this version may stand. Raises Conflict if its id or its claim is taken.

        What an upload holds that has expired at this time is freed.
        """

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
        Raises NotFound, also for what `by` may not see, Conflict, and what `edit` raises.
        """

    def remove(self, model_id: str, by: Actor, at: datetime, of: str | None = None) -> tuple[ModelVersion, str | None]:
        """Remove a version and free its claim; its last state, and the key of its object if no version has it now.

        Raises NotFound, also for what `by` may not see, and if it is not of the registered model `of`, if one is given.
        """

    def key_named_by(self, model_id: str) -> str | None:
        """The object that the version of this id names, or the open upload that holds the id."""

    def is_held(self, key: str) -> bool:
        """Whether copies have this object."""

    def begun_by(self, model_id: str) -> Actor | None:
        """Who registered the version of this id, or opened the upload that holds it; None if there is neither."""

    def events(self, subject: str) -> tuple[Sequence[Event], Head]:
        """All events of a subject in order, up to the head that its record keeps, and that. Raises NotFound."""


class Tokens(Protocol):
    """The API tokens; changes as in Catalog. Of their texts only digests come here."""

    def find(self, token_id: str) -> StoredToken | None:
        """The token of this id, whatever its state."""

    def page(self, limit: int, after: str | None = None) -> tuple[Sequence[StoredToken], str | None]:
        """In order of their ids, behind an id; and where to go on, None if that was all."""

    def add(self, token: Token, digest: str, by: Actor) -> None:
        """Store a new token."""

    def revoke(self, token_id: str, by: Actor, at: datetime) -> tuple[Token, Token]:
        """End a token; both states, the same if it was revoked before. Raises NotFound."""

    def bootstrap(self, token: Token, digest: str, by: Actor) -> tuple[Token, bool]:
        """Store the first admin's token, or find it stored already; whether it is new.

        Of two at once one gets it. Raises Forbidden if a token of an admin without limits works.
        """

    def note_use(self, token_id: str, at: datetime) -> None:
        """Note that it was used, unless that was noted within the hour. Never raises for a failing store."""


class Uploads(Protocol):
    """The uploads; changes as in Catalog. An open one holds its id and its claim, and ends once."""

    def get(self, upload_id: str) -> Upload:
        """Raises NotFound, as all of these do."""

    def open(self, upload: Upload, placement: Placement, by: Actor) -> Upload:
        """Store a new upload that holds what it will need; as it was stored. Raises Conflict."""

    def renew(self, upload_id: str, by: Actor, at: datetime) -> Upload:
        """Note activity at this time. Raises UploadClosed, and NotFound for what `by` may not see."""

    def publish(self, upload: Upload, version: ModelVersion, by: Actor) -> ModelVersion:
        """End an upload, as it was read, with its version, READY; as it was stored. Raises UploadClosed, Conflict."""

    def end(self, upload_id: str, state: UploadState, reason: str, by: Actor, at: datetime) -> tuple[Upload, Upload]:
        """End an open upload, freeing id and claim; both states, the same if it had ended before.

        Raises NotFound for what `by` may not see.
        """

    def expire(self, upload_id: str, at: datetime) -> tuple[Upload, Upload]:
        """End an upload that has expired at this time, if it has; both states."""

    def due(self, at: datetime, limit: int, after: str | None = None) -> Sequence[str]:
        """Rows, behind the row `after`, of uploads that may have expired, or may have left something in S3.

        A row ends with the id of its upload behind `#`.
        """

    def forget(self, row: str, later: datetime | None = None) -> None:
        """Drop a row, as nothing is left to do, or have it come back later."""

    def sweep_position(self) -> str:
        """The key of the object that was looked at last; empty at the beginning."""

    def sweep_on(self, after: str) -> None:
        """Remember the position."""


class RegisteredModels(Protocol):
    """The registered models; changes as in Catalog."""

    def named(self, exposed_name: str) -> RegisteredModel:
        """Raises NotFound."""

    def page(
        self, limit: int, after: str | None = None, within: Access = EVERYWHERE
    ) -> tuple[Sequence[tuple[str, RegisteredModel]], str | None]:
        """In order of their exposed names, any case, behind a position; each with its own position.

        And where to go on; None if that was all. Nothing that `within` does not see has a part in it.
        """

    def numbers(self, rm_id: str, limit: int, below: int | None = None) -> Sequence[tuple[int, str]]:
        """Number and id of versions, highest first."""

    def numbered(self, rm_id: str, number: int) -> str | None:
        """The id of the version of this number."""

    def change(
        self,
        exposed_name: str,
        edit: Callable[[RegisteredModel], RegisteredModel],
        by: Actor,
        at: datetime,
        if_revision: int | None = None,
    ) -> tuple[RegisteredModel, RegisteredModel]:
        """Replace one by `edit` of its state, and the copies of its aliases in its versions; both states.

        Raises NotFound, also for what `by` may not see, StaleRevision, InvalidInput for an alias of a number without a
        version, and what `edit` raises.
        """

    def add(self, model: RegisteredModel, by: Actor) -> None:
        """Store a new one, without versions. Raises AlreadyExists if its name is taken."""

    def rename(self, rm_id: str, name: str, by: Actor, at: datetime) -> tuple[RegisteredModel, RegisteredModel]:
        """Give one another name in its project; both states. Few versions are renamed with it, others by `refresh`.

        Raises NotFound, also for what `by` may not see, and AlreadyExists.
        """

    def remove(self, rm_id: str, by: Actor, at: datetime) -> RegisteredModel:
        """Free the name of one; its last state. Its versions are left, by their ids. Raises NotFound likewise."""

    def refresh(self, rm_id: str, by: Actor, at: datetime) -> bool:
        """Rename some of the versions that bear an old name; whether there were any."""

    def pending(self) -> Sequence[Errand]:
        """What was left for later with the registered models, and is not known to be done; the oldest of it."""

    def done(self, errand: Errand) -> None:
        """Forget what was left for later."""


class Numbered(Protocol):
    """The versions of registered models by their numbers; changes as in Catalog."""

    def add(self, model: RegisteredModel, version: ModelVersion, made: NewVersion, by: Actor) -> ModelVersion:
        """Store a version under the next number, which is its label too; as it was stored.

        What it copies, or the tree that it is of, stays as it is. Raises NotFound if the registered model, or what is
        copied, has gone, and what listing a tree again raises.
        """

    def version(self, rm_id: str, number: int) -> ModelVersion:
        """Raises NotFound."""

    def newest(
        self, models: Sequence[RegisteredModel], stages: Sequence[Stage | None]
    ) -> Mapping[str, Sequence[ModelVersion]]:
        """Of each, by rm_id, the version of the highest number in each of these stages, as far as there is one."""

    def transition(
        self,
        model: RegisteredModel,
        number: int,
        stage: Stage | None,
        archive_existing: bool,
        by: Actor,
        at: datetime,
    ) -> Sequence[tuple[ModelVersion, ModelVersion]]:
        """Put a version into a stage, the others that are in it to Archived before that, if asked for.

        Both states of each that changed, that version last. Raises NotFound.
        """


class Trail(Protocol):
    """What happened, newest first. A page may end early, with a position; then it may even be empty.

    Nothing that `within` does not see is in a page, nor can a position tell of it. If access is limited to projects,
    nothing else has a part in it. Raises Unavailable.
    """

    def of_subject(
        self, subject: str, asked: TrailFilters, limit: int, after: str | None = None, within: Access = EVERYWHERE
    ) -> TrailPage:
        """The events of one subject, as all acknowledged changes left them. A position is a number."""

    def across(
        self, asked: TrailFilters, at: datetime, limit: int, after: str | None = None, within: Access = EVERYWHERE
    ) -> TrailPage:
        """The events of all subjects up to this time, by day and id; what happened last may be missing yet."""

    def links(self, day: str) -> Iterator[Link]:
        """The events of a day in UTC, of all subjects, in order of id; what happened last may be missing yet."""

    def links_of(self, subject: str, first: int) -> Sequence[Link]:
        """The events of a subject from this number on, in order."""


class Checkpoints(Protocol):
    """The checkpoints of the trail. Once added, none is changed or removed. Raises Unavailable."""

    def add(self, checkpoint: Checkpoint, content: BinaryIO) -> bool:
        """Store it; False if there is one of this key, which stays."""

    def newest(self, until: datetime) -> Checkpoint | None:
        """The newest one that covers no more than this."""

    def page(self, at: datetime, limit: int, after: str | None = None) -> Sequence[Checkpoint]:
        """Those up to this time, newest first, behind a key, and until when each is locked."""

    def lines(self, key: str) -> Iterator[bytes]:
        """The file, line by line."""

    def download_url(self, key: str) -> str:
        """A URL that serves the file for a limited time. It is a secret."""


@dataclass(frozen=True)
class SignedRequest:
    """Where to send bytes, with exactly these headers. The URL is a secret."""

    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Poured:
    """What an object came to that was stored while its bytes still came.

    sha256 is in hexadecimal, of the whole; s3_digest is the composite digest if it was stored in parts.
    """

    size: int
    sha256: str
    s3_digest: str | None
    version_id: str


class Blobs(Protocol):
    """The objects. A key is written once and never again."""

    def ping(self) -> None:
        """Raises Unavailable if the store does not answer."""

    def put(self, key: str, body: BinaryIO, size: int, sha256: str, media_type: str, model_id: str) -> str:
        """Store an object, marked with the model it is for; its version id. Raises Unavailable."""

    def pour(self, key: str, chunks: Iterable[bytes], media_type: str, model_id: str) -> Poured:
        """Store an object while its bytes come, in little memory, marked with the model it is for.

        Raises Unavailable, TooLarge, and whatever the chunks raise; then it is not there, and what was sent is dropped.
        """

    def discard(self, key: str, version_id: str) -> None:
        """Remove an object that no record names, for good. Never raises for a failing store: a sweep follows."""

    def remove(self, key: str) -> None:
        """Remove the object of a deleted record. Never raises for a failing store: a sweep follows."""

    def download_url(self, file: File) -> str:
        """A URL that serves the bytes, with file name and type, for a limited time. It is a secret."""

    def put_request(self, upload: Upload) -> SignedRequest:
        """What stores the whole object, if it has the digest that was stated, once."""

    def part_request(self, upload: Upload, number: int, digest: str) -> SignedRequest:
        """What stores one part, if it has this SHA-256 (base64)."""

    def start_parts(self, upload: Upload) -> str:
        """Begin an object of several parts, marked with its model; what S3 calls it. Raises Unavailable."""

    def parts(self, upload: Upload) -> Sequence[Part] | None:
        """The parts that are there; None once they are joined or dropped. Raises Unavailable."""

    def join(self, upload: Upload, parts: Sequence[Part]) -> None:
        """Make the object of all its parts, unless they are gone: the object tells. Raises Unavailable."""

    def drop_parts(self, upload: Upload) -> None:
        """Forget what was sent of an object of several parts, if anything. Raises Unavailable."""

    def stored(self, key: str) -> StoredObject | None:
        """What S3 says of an object; None if there is none. Raises Unavailable."""

    def opened(self, key: str, size: int) -> BinaryIO:
        """An object to seek and read in; each read is one request. Its reads raise Unavailable."""

    def written_before(self, at: datetime, limit: int, after: str) -> tuple[Sequence[str], str | None]:
        """Of the next `limit` keys behind a key, those written before this time; and the key to go on from, if any."""
