"""Gets one model out of Geti and into the registry: found, sent, stored as it comes, inspected, registered.

Nothing of it is in memory whole. Whatever is refused, or breaks off, leaves no object and no record; after a crash an
object may be left that no record names, which is swept.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from chalicelib.geti.errors import GetiBusy, GetiError, GetiGone
from chalicelib.geti.packages import REPACKED, REPACKED_TAG, Found, draft_of
from chalicelib.geti.ports import Server, SyncStore
from chalicelib.geti.records import BaseModel, Group
from chalicelib.geti.repacking import has_sample_image, repacked
from chalicelib.geti.selection import Selection, why_not_importable
from chalicelib.geti.states import Order
from chalicelib.geti.trying import Unfit, Unready
from chalicelib.registry.access import Actor
from chalicelib.registry.archives import ArchiveReport, inspect_archive
from chalicelib.registry.errors import InvalidArchive, RegistryError
from chalicelib.registry.formats import OPENVINO
from chalicelib.registry.models import ZIP, Draft, File
from chalicelib.registry.service import Registry, base_name

RESERVE_SECONDS = 60  # for all that is to be done once the package is there
ANY_VERSION = Selection(models="all")  # what can be imported at all
NOT_STORED = "Geti sent a package that may not be stored"


class Transfer:
    """What comes from Geti while there is time, and how many bytes that were. `remaining`: seconds."""

    def __init__(self, remaining: Callable[[], float]) -> None:
        self._remaining = remaining
        self.bytes = 0

    def received(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """As they are. Raises GetiBusy when the time is over."""
        for chunk in self.in_time(chunks):
            self.bytes += len(chunk)
            yield chunk

    def in_time(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._remaining() < RESERVE_SECONDS:
                raise GetiBusy(
                    "The time for one import was over before all of the package was stored: Geti, the way to it, or the"
                    " package is too much for it."
                )
            yield chunk


@dataclass(frozen=True)
class _Stored:
    """A package that is stored as this version of its object, and inspected."""

    file: File
    version_id: str
    report: ArchiveReport


class Fetching:
    """Finds and fetches models of one server. Raises GetiError and RegistryError."""

    def __init__(
        self,
        server: Server,
        server_id: str,
        store: SyncStore,
        registry: Registry,
        clock: Callable[[], datetime],
        *,
        strips_sample_image: bool,
    ) -> None:
        self._server = server
        self._server_id = server_id
        self._store = store
        self._registry = registry
        self._clock = clock
        self._strips_sample_image = strips_sample_image

    def found(self, order: Order) -> Found:
        """The model, if it is there and can be imported."""
        project = self._server.project(order.project_id)
        group = next((group for group in self._server.groups(project) if group.id == order.group_id), None)
        if group is None:
            raise GetiGone("Geti does not list the group of this model (any more).", "model_storage_not_found")
        details = self._server.details(project, group.id, order.model_id)
        model = details.optimized_model(order.model_id)
        if model is None:
            raise GetiGone("Geti does not list this model (any more).", "model_not_found")
        base = _importable_version(group, details.base_model_id)
        if why_not := why_not_importable(model):
            if model.is_unfinished:
                raise Unready(f"It cannot be imported yet: {why_not}.")
            raise Unfit(f"It cannot be imported: {why_not}.")
        return Found(
            server_id=self._server_id,
            info=self._server.info,
            project=project,
            group=group,
            base=base,
            details=details,
            model=model,
        )

    def fetch(self, found: Found, transfer: Transfer, by: Actor) -> None:
        """Register the model with what Geti sends of it."""
        draft = draft_of(found, self._name(found))
        # Before a byte moves: what stands in its way now will do so then.
        self._registry.catalog.place(draft, self._clock())
        with self._server.package(found.project, found.model) as package:
            stored = self._stored(package.file_name, transfer.received(package.chunks), draft)
        if self._strips_sample_image and has_sample_image(entry.path for entry in stored.report.entries):
            stored = self._without_sample_image(stored, transfer, draft)
            draft = draft.model_copy(update={"tags": {**draft.tags, REPACKED_TAG: REPACKED}})
        self._registry.register_stored(draft, stored.file, stored.version_id, stored.report, by)

    def _name(self, found: Found) -> str:
        """The first group of a project that has a name keeps it."""
        owner = self._store.owner_of_name(found.project.id, found.name, found.group.id)
        return found.name if owner == found.group.id else found.other_name

    def _stored(self, file_name: str, chunks: Iterable[bytes], draft: Draft) -> _Stored:
        """Store these bytes under a new key, and inspect them there, in a few ranged reads."""
        blobs, key = self._registry.blobs, self._registry.new_key(file_name)
        poured = blobs.pour(key, chunks, ZIP, draft.id)
        with self._discarding(key, poured.version_id):
            if not poured.size:
                raise InvalidArchive(f"{NOT_STORED}: it is empty.")
            file = File(
                key=key,
                file_name=base_name(file_name),
                media_type=ZIP,
                size=poured.size,
                sha256=poured.sha256,
                sha256_checked_by="registry",
                s3_digest=poured.s3_digest,
            )
            return _Stored(file, poured.version_id, self._inspected(file))

    def _inspected(self, file: File) -> ArchiveReport:
        with self._registry.blobs.opened(file.key, file.size) as stored:
            try:
                report = inspect_archive(stored, declared_format=OPENVINO)
            except InvalidArchive as exc:
                raise InvalidArchive(f"{NOT_STORED}: {exc}") from exc
        if report.format != OPENVINO:
            raise InvalidArchive(f"{NOT_STORED}: it holds no OpenVINO model, an .xml beside a .bin of the same name.")
        return report

    def _without_sample_image(self, stored: _Stored, transfer: Transfer, draft: Draft) -> _Stored:
        """Another object in its place."""
        file = stored.file
        try:
            with self._registry.blobs.opened(file.key, file.size) as original:
                return self._stored(file.file_name, transfer.in_time(repacked(original)), draft)
        finally:
            self._registry.blobs.discard(file.key, stored.version_id)

    @contextmanager
    def _discarding(self, key: str, version_id: str) -> Iterator[None]:
        """Remove the bytes of what is refused."""
        try:
            yield
        except (RegistryError, GetiError):
            self._registry.blobs.discard(key, version_id)
            raise


def _importable_version(group: Group, base_model_id: str) -> BaseModel:
    """The trained version, if its models can be imported. Not every Geti minds which group a model is asked for in."""
    for base, why_not in ANY_VERSION.versions(group):
        if base.id == base_model_id:
            if why_not:
                raise Unfit(f"It cannot be imported: {why_not}.")
            return base
    raise GetiGone("Geti does not list this model in its group (any more).", "model_not_found")
