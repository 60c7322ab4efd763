"""What becomes of an imported model that Geti does not list any more: it is marked, never removed.

A model may be missing for many reasons, a lost permission among them. It counts as deleted only if two complete
listings in a row did not have it and Geti, asked for it, says itself that there is no such model, group or project; as
unreachable if Geti then refuses to tell. One that is listed again loses its mark.
"""

from dataclasses import dataclass

from chalicelib.geti.errors import GetiError, GetiForbidden, GetiGone, GetiUnauthorized
from chalicelib.geti.ports import Server, SyncStore
from chalicelib.geti.records import OriginState, Project
from chalicelib.geti.states import SYNC, Item, Lease
from chalicelib.registry.errors import NotFound, StaleRevision
from chalicelib.registry.models import Changes
from chalicelib.registry.service import Registry

MISSES = 2
TAG = "geti.origin_state"
KEY_TAG = "geti.key"
# What Geti says of what is not there. That a list lacks a variant (Geti 3), or a workspace is gone, is no such word.
GONE = ("project_not_found", "model_storage_not_found", "model_not_found")


@dataclass(frozen=True)
class Finding:
    """An item as it is to be kept. `is_in_question`: the next run has to look again. `error` ends the run."""

    item: Item
    is_in_question: bool = False
    error: GetiUnauthorized | None = None


class Marking:
    """Finds out, and keeps: on the item, and as a tag of the registered version."""

    def __init__(self, server: Server, store: SyncStore, registry: Registry) -> None:
        self._server = server
        self._store = store
        self._registry = registry

    def finding(self, project: Project, item: Item, is_listed: bool, *, is_thorough: bool) -> Finding:
        """What to make of an imported model. What is unreachable is asked for again only if `is_thorough`."""
        if is_listed:
            return Finding(item.model_copy(update={"misses": 0, "origin_state": OriginState.PRESENT}))
        if item.origin_state == OriginState.DELETED:
            return Finding(item)
        if item.origin_state == OriginState.UNREACHABLE and not is_thorough:
            return Finding(item)
        missed = item.model_copy(update={"misses": min(item.misses + 1, MISSES)})
        return self._asked_for(project, missed) if missed.misses == MISSES else Finding(missed, is_in_question=True)

    def _asked_for(self, project: Project, item: Item) -> Finding:
        try:
            self._server.details(project, item.group_id, item.model_id)
        except GetiGone as exc:
            if exc.geti_code not in GONE:
                return Finding(item, is_in_question=True)
            return Finding(item.model_copy(update={"origin_state": OriginState.DELETED}))
        except GetiForbidden:
            return Finding(item.model_copy(update={"origin_state": OriginState.UNREACHABLE}))
        except GetiUnauthorized as exc:
            return Finding(item.model_copy(update={"origin_state": OriginState.UNREACHABLE}), error=exc)
        except GetiError:
            return Finding(item, is_in_question=True)
        # It is there, only not listed: it stays as it is, and is asked for again when it was missed twice more.
        present = {"misses": 0, "origin_state": OriginState.PRESENT}
        return Finding(item.model_copy(update=present), is_in_question=True)

    def carry_out(self, lease: Lease, before: Item, after: Item) -> None:
        """Keep a finding. The version first: if this is interrupted, the next run finds the same again.

        Raises InvalidInput if the version has no room for the mark; then it is only known here.
        """
        try:
            if after.origin_state != before.origin_state:
                self._mark(after)
        finally:
            self._store.mark(lease, after)

    def _mark(self, item: Item) -> None:
        """Tag the version; nothing if it was deleted here, or another model has its id by now."""
        while True:
            try:
                version = self._registry.catalog.version(item.model_id)
                if KEY_TAG not in version.tags:
                    return
                tags = {key: value for key, value in version.tags.items() if key != TAG}
                if item.origin_state != OriginState.PRESENT:
                    tags[TAG] = item.origin_state.value
                self._registry.update(version.id, Changes(tags=tags), SYNC, if_revision=version.revision)
            except NotFound:
                return
            except StaleRevision:
                continue  # somebody changed it in between: their change stays
            return
