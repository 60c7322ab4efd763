"""The calls of Registry that are about an Intel Geti server: what it has, imports from it, the sync with it."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import uuid4

from modelreg.errors import Conflict, Forbidden, InvalidInput, NotARegistry, NotFound
from modelreg.geti_models import Check, GetiProject, Import, StartedSync, SyncRun, SyncStatus
from modelreg.http import Api, segment
from modelreg.retry import Patience

T = TypeVar("T")
GETI_SECONDS = 40.0  # the registry asks Geti, and watches imports, for 29 at most
POLL_SECONDS = 2.0
# The older routes say these in words alone.
_REFUSED = re.compile(r"Model\(s\): .* can not be registered\.")
_REGISTERED = re.compile(r"Model\(s\): ([^\s,]+).* is already registered\.")
_LISTED = "`modelreg geti show PROJECT`, or project(), lists what can be imported."


class GetiCalls:
    """Registry has these too; it says what they talk with."""

    _api: Api
    _patience: Patience

    def projects(self) -> list[GetiProject]:
        """All projects of the Geti server that the token may see, with what can be imported. It asks Geti now."""
        return self._api.answer(list[GetiProject], "GET", "/projects", read_seconds=GETI_SECONDS)

    def project(self, project_id: str) -> GetiProject:
        return self._api.answer(GetiProject, "GET", f"/projects/{segment(project_id)}", read_seconds=GETI_SECONDS)

    def import_models(
        self, project: str | GetiProject, models: Iterable[str | tuple[str, str]], *, wait: bool = True
    ) -> Import:
        """Registers models of a Geti project, which is given by its id or as project() answers it; what became of each.

        models: ids, each alone or with the id of its group. wait: until all have ended; else some may be `pending`.
        Raises InvalidInput if it is seen at once that some cannot be registered, Conflict if some are already.
        """
        project_id = project if isinstance(project, str) else project.id
        wanted = self._with_groups(project, list(models))
        body = {"models": [{"id": model_id, "group_id": group_id} for model_id, group_id in wanted]}
        path = f"/projects/{segment(project_id)}/geti-models/download"
        with _refusals():
            # With a key, a repetition after a lost answer is the same import.
            headers = {"Idempotency-Key": str(uuid4())}
            answer = self._api.request("POST", path, json=body, headers=headers, read_seconds=GETI_SECONDS)
        import_id = answer.headers.get("location", "").rpartition("/")[2]
        if not import_id:
            raise NotARegistry(f"{self._api.url} did not answer an import as a model registry does.")
        return self._until(lambda: self._ended(import_id)) if wait else self.import_status(import_id)

    def _with_groups(
        self, project: str | GetiProject, models: list[str | tuple[str, str]]
    ) -> Iterator[tuple[str, str]]:
        """Each model with its group, looked up where it is not said. Raises NotFound."""
        known: dict[str, str] = {}
        if any(isinstance(one, str) for one in models):
            found = self.project(project) if isinstance(project, str) else project
            known = {model.id: model.group_id for model in found.importable()}
        missing = [one for one in models if isinstance(one, str) and one not in known]
        if missing:
            what = f"{', '.join(missing)} cannot be imported from this project"
            raise NotFound(f"{what}: it has no such OpenVINO model, or its files are gone.", hint=_LISTED)
        yield from ((one, known[one]) if isinstance(one, str) else one for one in models)

    def import_status(self, import_id: str) -> Import:
        """What became of an import so far. It is known for 7 days."""
        found = self._api.answer(Import, "GET", f"/imports/{segment(import_id)}")
        return found.model_copy(update={"id": import_id})

    def _ended(self, import_id: str) -> Import | None:
        found = self.import_status(import_id)
        return found if found.state == "done" else None

    def start_sync(self, *, dry_run: bool = False, full: bool = False) -> str:
        """Starts a sync with Geti; the id of the run. Only admins may.

        dry_run: only find out what it would do. full: look at everything anew, and try what was given up once more.
        Raises Conflict while one is going on.
        """
        body = {"dry_run": dry_run, "full": full}
        headers = {"Idempotency-Key": str(uuid4())}
        return self._api.answer(StartedSync, "POST", "/sync", json=body, headers=headers).run_id

    def sync_status(self) -> SyncStatus:
        """The run that is going on, or the last one. Only admins may."""
        return self._api.answer(SyncStatus, "GET", "/sync")

    def wait_for_sync(self, run_id: str) -> SyncRun:
        """The run once it is finished, its imports included. Raises NotFound if another one has followed it."""
        return self._until(lambda: self._finished(run_id))

    def _finished(self, run_id: str) -> SyncRun | None:
        status = self.sync_status()
        known = status.run or status.last_run
        if known is None or known.run_id != run_id:
            hint = "`modelreg events --action sync.finished` tells how it ended."
            raise NotFound(f"The run {run_id} is over, and another one has followed.", hint=hint)
        return known if status.state == "idle" else None

    def geti_checks(self) -> list[Check]:
        """Whether models can come from Geti, check by check, and what to do where not. Only admins may."""
        return self._api.answer(list[Check], "GET", "/sync/checks", read_seconds=GETI_SECONDS)

    def _until(self, ask: Callable[[], T | None]) -> T:
        while True:
            found = ask()
            if found is not None:
                return found
            self._patience.wait(threading.Event(), POLL_SECONDS)


@contextmanager
def _refusals() -> Iterator[None]:
    """What is told of models in words, as what it is."""
    try:
        yield
    except Forbidden as exc:
        if not _REFUSED.match(str(exc)):
            raise
        raise InvalidInput(str(exc), field="models", code="not_importable", hint=_LISTED) from None
    except Conflict as exc:
        if not (found := _REGISTERED.match(str(exc))):
            raise
        hint = "Leave out what is registered already, or delete it first."
        raise Conflict(str(exc), holder=found[1], code="already_registered", hint=hint) from None
    except NotFound as exc:
        raise NotFound(str(exc), code=exc.code, hint=_LISTED) from None
