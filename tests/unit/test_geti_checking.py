"""The checks of the way to Geti: each failure is named by what is wrong, with what to do, and without the token."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from chalicelib.geti.checking import Check, Checking, Setup
from chalicelib.geti.errors import (
    GetiBusy,
    GetiError,
    GetiForbidden,
    GetiGone,
    GetiMisconfigured,
    GetiRefused,
    GetiUnauthorized,
    NotGeti,
)
from chalicelib.geti.records import ServerInfo
from chalicelib.geti.selection import Selection
from chalicelib.registry.errors import Unavailable
from tests.geti_server import GetiServer

TOKEN = "geti_pat_003AuLtjc7TJLctqJ2Unu3mfAGcxg9lrkrCWgKbidLF_2xfgwV"
DAMAGED = f"{TOKEN[:-1]}0"
SETUP = Setup(host="https://geti.test", token_from="GETI_TOKEN_SECRET", has_queue=True, has_sync_function=True)
EVERYTHING = Selection()
ALL = ["queue", "settings", "token", "reach", "server", "workspace", "projects", "rights", "selection"]


class Unreachable(GetiServer):
    """A server that tells what it is by an error."""

    def __init__(self, failure: GetiError) -> None:
        super().__init__()
        self._failure = failure

    @property
    def info(self) -> ServerInfo:
        raise self._failure

    @info.setter
    def info(self, info: ServerInfo) -> None:
        pass


def two_projects() -> GetiServer:
    server = GetiServer()
    server.add("caps", "Bottle caps")
    server.add("lids", "Lids")
    return server


@dataclass
class Stage:
    """What is checked; right unless a test changes it."""

    setup: Setup = SETUP
    token: Callable[[], str | None] = lambda: TOKEN
    reach: Callable[[], object] = dict
    server: GetiServer = field(default_factory=two_projects)
    selection: Selection = EVERYTHING
    seconds: float = 5

    def checks(self) -> dict[str, Check]:
        checking = Checking(self.setup, self.token, self.reach, self.server, self.selection, self.seconds)
        checks = checking.checks()
        assert len({check.check for check in checks}) == len(checks)
        assert not [check for check in checks if "geti_pat_0" in check.model_dump_json()]
        assert all((check.fix is None) == check.ok for check in checks)
        return {check.check: check for check in checks}

    def last(self) -> tuple[str, str, str]:
        """The check that failed, which is the last one."""
        *others, last = self.checks().values()
        assert not last.ok
        assert all(check.ok for check in others)
        return last.check, last.found, last.fix or ""


def raising(failure: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise failure

    return fail


def test_all_is_right_with_a_geti_2() -> None:
    checks = Stage().checks()

    assert list(checks) == ALL
    assert all(check.ok for check in checks.values())
    assert checks["settings"].found == (
        "Geti is at https://geti.test; the token is read from GETI_TOKEN_SECRET; its certificate is checked."
    )
    assert checks["server"].found == "Geti 2.13.1 answers."
    assert checks["projects"].found == "The token's user sees 2 projects."
    assert checks["selection"].found == "2 of 2 projects are synced, of these the latest of each group."


def test_all_is_right_with_a_geti_3_which_needs_no_token() -> None:
    server = GetiServer(is_flat=True)
    server.add("caps", "Bottle caps")
    setup = Setup(host="https://geti.test:7860", has_queue=True, has_sync_function=True)

    checks = Stage(setup=setup, token=lambda: None, server=server).checks()

    assert list(checks) == [name for name in ALL if name != "workspace"]
    assert all(check.ok for check in checks.values())
    assert "no token is set" in checks["settings"].found


def test_without_a_host_there_is_nothing_to_check() -> None:
    check, found, fix = Stage(setup=SETUP.model_copy(update={"host": None})).last()

    assert (check, found) == ("settings", "GETI_HOST is not set.")
    assert "GETI_TOKEN_SECRET" in fix


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_verified": False}, "not checked, so anybody in between can read the token"),
        ({"has_own_ca": True}, "checked by GETI_CA_BUNDLE"),
        ({"host": "http://127.0.0.1:7860"}, "on this machine, so without a certificate"),
    ],
)
def test_it_is_said_how_the_certificate_is_checked(change: dict[str, Any], said: str) -> None:
    assert said in Stage(setup=SETUP.model_copy(update=change)).checks()["settings"].found


def test_a_queue_that_is_missing_does_not_hide_the_rest() -> None:
    checks = Stage(setup=SETUP.model_copy(update={"has_queue": False})).checks()

    assert [name for name, check in checks.items() if not check.ok] == ["queue"]
    assert list(checks) == ALL
    assert "IMPORT_QUEUE_URL is not set" in checks["queue"].found


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (lambda: "secret", "not a Geti personal access token"),
        (lambda: DAMAGED, "its checksum differs"),
        (raising(Unavailable("The secret cannot be read: AccessDenied.")), "AccessDenied"),
    ],
    ids=["another", "damaged", "unreadable"],
)
def test_a_token_that_cannot_be_one_is_told_before_it_is_sent(token: Callable[[], str], said: str) -> None:
    server = two_projects()

    check, found, _ = Stage(token=token, server=server).last()

    assert check == "token"
    assert said in found
    assert server.asked == []


@pytest.mark.parametrize(
    ("failure", "fix"),
    [
        (GetiBusy("cannot be reached: no route"), "VPC"),
        (GetiMisconfigured("The certificate is not trusted. Set GETI_CA_BUNDLE."), "Change the setting"),
    ],
)
def test_a_server_that_is_out_of_reach_is_told_as_such(failure: GetiError, fix: str) -> None:
    check, found, told = Stage(reach=raising(failure)).last()

    assert (check, found) == ("reach", str(failure))
    assert fix in told


@pytest.mark.parametrize("failure", [NotGeti("HTML"), GetiUnauthorized("401"), GetiRefused("no")])
def test_a_server_that_answers_anything_is_reached(failure: GetiError) -> None:
    assert list(Stage(reach=raising(failure)).checks()) == ALL


@pytest.mark.parametrize(
    ("failure", "check", "fix"),
    [
        (GetiUnauthorized("Geti says: expired"), "token", "Make a new personal access token"),
        (GetiMisconfigured("There are several workspaces"), "workspace", "Change the setting"),
        (NotGeti("An HTML page"), "server", "GETI_HOST"),
        (GetiBusy("throttled"), "server", "wait"),
        (GetiRefused("no"), "server", "whoever runs Geti"),
    ],
)
def test_what_does_not_let_the_registry_in_is_named(failure: GetiError, check: str, fix: str) -> None:
    name, found, told = Stage(server=Unreachable(failure)).last()

    assert (name, found) == (check, str(failure))
    assert fix in told


def test_projects_that_cannot_be_listed_are_told() -> None:
    server = two_projects()
    server.failures["projects",] = GetiForbidden("403")

    assert Stage(server=server).last()[0] == "projects"


def test_projects_that_cannot_be_read_are_named() -> None:
    server = two_projects()
    server.failures["groups", "lids"] = GetiForbidden("403")

    checks = Stage(server=server).checks()

    assert checks["rights"].found == "1 of 2 projects cannot be read: Lids (lids)."
    assert checks["selection"].ok


def test_a_project_that_went_away_meanwhile_is_no_failure() -> None:
    server = two_projects()
    server.failures["groups", "lids"] = GetiGone("404", "project_not_found")

    assert Stage(server=server).checks()["rights"].ok


def test_only_projects_that_are_synced_have_to_be_readable() -> None:
    server = two_projects()
    server.failures["groups", "lids"] = GetiForbidden("403")

    checks = Stage(server=server, selection=Selection(projects=("BOTTLE CAPS",))).checks()

    assert checks["rights"].found == "1 project looked at can be read."
    assert checks["selection"].found == "1 of 2 projects are synced, of these the latest of each group."


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(projects=("lids", "Cups")), "GETI_SYNC_PROJECTS names Cups"),
        (Selection(excluded_projects=("Cups",)), "GETI_SYNC_EXCLUDE_PROJECTS names Cups"),
        (Selection(excluded_projects=("caps", "lids")), "0 of 2 projects are synced"),
    ],
)
def test_a_selection_that_cannot_be_meant_is_told(selection: Selection, said: str) -> None:
    check, found, _ = Stage(selection=selection).last()

    assert check == "selection"
    assert said in found


def test_the_checks_end_in_time() -> None:
    let_go = threading.Event()

    check, found, _ = Stage(reach=lambda: let_go.wait(5), seconds=0.05).last()
    let_go.set()

    assert (check, found) == ("reach", "Geti did not answer in time all that there was to ask. Try again later.")
