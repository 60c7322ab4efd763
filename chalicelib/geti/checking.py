"""Whether models can come from Geti, step by step, and what to do where they cannot. It changes nothing.

Each step needs those before it; what comes behind one that failed is left out. Secrets are in no text.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from chalicelib.geti.at_once import AtOnce
from chalicelib.geti.errors import (
    GetiBusy,
    GetiError,
    GetiForbidden,
    GetiGone,
    GetiMisconfigured,
    GetiUnauthorized,
    NotGeti,
)
from chalicelib.geti.ports import Server
from chalicelib.geti.records import Project, ServerInfo
from chalicelib.geti.selection import Selection
from chalicelib.geti.tokens import checked_token
from chalicelib.registry.errors import RegistryError
from chalicelib.registry.models import Frozen

CHECK_SECONDS = 20
PROJECTS_READ = 50
NAMED = 5
AGAIN = "Then check again."
FIXES = {
    GetiUnauthorized: f"Make a new personal access token in Geti and put it where the registry reads it. {AGAIN}",
    NotGeti: f"Set GETI_HOST to the address of Geti itself. {AGAIN}",
    GetiMisconfigured: f"Change the setting that is named. {AGAIN}",
    GetiForbidden: f"In Geti, give the user of the token a role in what it shall read. {AGAIN}",
    GetiBusy: "Check GETI_HOST, its name in the DNS, and that the network of the functions (VPC, security groups,"
    f" firewalls) leads there. If Geti is only busy, wait. {AGAIN}",
}
UNREADABLE = f"Check that what holds the token exists, and that the functions may read it. {AGAIN}"
OTHERWISE = "Ask whoever runs Geti; its log may say more."


class Check(Frozen):
    """What was looked at, whether it is right, what was found, and what to do if it is not right."""

    check: str
    ok: bool
    found: str
    fix: str | None = None


class Setup(Frozen):
    """What is set, but for secrets. token_from: the setting that says where the token is."""

    host: str | None = None
    token_from: str | None = None
    is_verified: bool = True
    has_own_ca: bool = False
    has_queue: bool = False
    has_sync_function: bool = False


class _Failed(Exception):
    def __init__(self, check: Check) -> None:
        super().__init__(check.check)
        self.check = check


class Checking:
    """Checks the way to Geti. `reach` asks it something; the server finds out what it is when it is used."""

    def __init__(
        self,
        setup: Setup,
        token: Callable[[], str | None],
        reach: Callable[[], object],
        server: Server,
        selection: Selection,
        seconds: float = CHECK_SECONDS,
    ) -> None:
        self._setup = setup
        self._token = token
        self._reach = reach
        self._server = server
        self._selection = selection
        self._seconds = seconds

    def checks(self) -> Sequence[Check]:
        """All checks in order, the last one the first that failed and that others need."""
        found: list[Check] = []
        try:
            for check in self._steps(AtOnce(self._seconds)):
                found.append(check)
        except _Failed as exc:
            # That of the token is made twice: whether it may be one, and whether Geti takes it.
            found = [*(check for check in found if check.check != exc.check.check), exc.check]
        return found

    def _steps(self, at_once: AtOnce) -> Iterator[Check]:
        yield self._queue()
        yield self._settings()
        yield self._kept_token(at_once)
        yield self._reached(at_once)
        info = self._known(at_once)
        yield Check(check="server", ok=True, found=f"Geti {info.version} answers.")
        if info.major == 2:
            where = f"It is workspace {info.workspace_id} of organization {info.organization_id}."
            yield Check(check="workspace", ok=True, found=where)
        with _failing("projects"):
            projects = at_once.one(self._server.projects)
        yield Check(check="projects", ok=True, found=f"The token's user sees {_count(len(projects), 'project')}.")
        yield self._rights(at_once, projects)
        yield self._selected(projects)

    def _queue(self) -> Check:
        known = self._setup
        missing = [
            name
            for name, is_there in (("IMPORT_QUEUE_URL", known.has_queue), ("SYNC_FUNCTION", known.has_sync_function))
            if not is_there
        ]
        if not missing:
            return Check(check="queue", ok=True, found="There is a queue of imports, and a function that syncs.")
        found = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: nothing can be imported."
        return Check(check="queue", ok=False, found=found, fix="Deploy the template as it is: it sets them.")

    def _settings(self) -> Check:
        known = self._setup
        if known.host is None:
            raise _Failed(
                Check(
                    check="settings",
                    ok=False,
                    found="GETI_HOST is not set.",
                    fix="Set GETI_HOST, and GETI_TOKEN, GETI_TOKEN_SECRET or GETI_TOKEN_PARAMETER.",
                )
            )
        token = f"the token is read from {known.token_from}" if known.token_from else "no token is set"
        if known.host.startswith("http://"):
            trust = "it is on this machine, so without a certificate"
        elif not known.is_verified:
            trust = "its certificate is not checked, so anybody in between can read the token"
        else:
            trust = f"its certificate is checked{' by GETI_CA_BUNDLE' if known.has_own_ca else ''}"
        return Check(check="settings", ok=True, found=f"Geti is at {known.host}; {token}; {trust}.")

    def _kept_token(self, at_once: AtOnce) -> Check:
        """What can be told of it here."""
        try:
            with _failing("token"):
                text = at_once.one(self._token)
                if text is not None:
                    checked_token(text)
        except RegistryError as exc:
            raise _Failed(Check(check="token", ok=False, found=str(exc), fix=UNREADABLE)) from exc
        if text is None:
            return Check(check="token", ok=True, found="None is set. Geti 3 needs none.")
        return Check(check="token", ok=True, found="It has the form of a personal access token.")

    def _reached(self, at_once: AtOnce) -> Check:
        host = self._setup.host
        try:
            at_once.one(self._reach)
        except (GetiBusy, GetiMisconfigured) as exc:
            if not isinstance(exc, NotGeti):
                raise _Failed(_failure("reach", exc)) from exc
        except GetiError:
            pass  # It answers; what, is found out next.
        return Check(check="reach", ok=True, found=f"{host} answers.")

    def _known(self, at_once: AtOnce) -> ServerInfo:
        """What it is, whether it takes the token, and which workspace is meant."""
        try:
            return at_once.one(lambda: self._server.info)
        except GetiMisconfigured as exc:
            name = "server" if isinstance(exc, NotGeti) else "workspace"
            raise _Failed(_failure(name, exc)) from exc
        except GetiError as exc:
            name = "token" if isinstance(exc, GetiUnauthorized) else "server"
            raise _Failed(_failure(name, exc)) from exc

    def _rights(self, at_once: AtOnce, projects: Sequence[Project]) -> Check:
        """Whether the projects that are synced can be read; the first ones."""
        wanted = [project for project in projects if self._selection.takes_project(project)][:PROJECTS_READ]

        def is_readable(project: Project) -> bool:
            try:
                self._server.groups(project)
            except GetiForbidden:
                return False
            except GetiGone:
                pass  # since it was listed
            return True

        with _failing("rights"):
            readable = at_once.each(is_readable, wanted)
        refused = [project for project, is_it in zip(wanted, readable, strict=True) if not is_it]
        if not refused:
            return Check(check="rights", ok=True, found=f"{_count(len(wanted), 'project')} looked at can be read.")
        named = ", ".join(f"{project.name} ({project.id})" for project in refused[:NAMED])
        more = ", ..." if len(refused) > NAMED else ""
        found = f"{len(refused)} of {_count(len(wanted), 'project')} cannot be read: {named}{more}."
        return Check(check="rights", ok=False, found=found, fix=FIXES[GetiForbidden])

    def _selected(self, projects: Sequence[Project]) -> Check:
        rules = self._selection
        named = [("GETI_SYNC_PROJECTS", rules.projects), ("GETI_SYNC_EXCLUDE_PROJECTS", rules.excluded_projects)]
        for setting, names in named:
            for name in names:
                if not any(Selection(projects=(name,)).takes_project(project) for project in projects):
                    found = f"{setting} names {name}, which no project that the token's user sees is called."
                    fix = f"Correct the name, or give the user a role in that project. {AGAIN}"
                    return Check(check="selection", ok=False, found=found, fix=fix)
        count = sum(map(rules.takes_project, projects))
        which = {"active": "versions active in Geti", "latest": "the latest of each group", "all": "all versions"}
        found = f"{count} of {_count(len(projects), 'project')} are synced, of these {which[rules.models]}."
        if projects and not count:
            return Check(check="selection", ok=False, found=found, fix="Change GETI_SYNC_PROJECTS, _EXCLUDE_PROJECTS.")
        return Check(check="selection", ok=True, found=found)


@contextmanager
def _failing(name: str) -> Iterator[None]:
    """An error within is what this check found."""
    try:
        yield
    except GetiError as exc:
        raise _Failed(_failure(name, exc)) from exc


def _failure(name: str, exc: GetiError) -> Check:
    fix = next((fix for kind, fix in FIXES.items() if isinstance(exc, kind)), OTHERWISE)
    return Check(check=name, ok=False, found=str(exc), fix=fix)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
