"""What answers, and where: the profile, the organization and the workspace, found on first use."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from chalicelib.geti.connecting import connect
from chalicelib.geti.errors import GetiBusy, GetiMisconfigured, GetiUnauthorized, NotGeti
from chalicelib.geti.ports import Server
from chalicelib.geti.records import ServerInfo
from tests.geti_client import transport_to
from tests.simulators.geti import VALID_TOKEN, GetiServer, World

FOUND = ["product_info", "token_organization", "workspaces"]


@pytest.fixture
def geti() -> Iterator[GetiServer]:
    with GetiServer(World()) as server:
        yield server


@pytest.fixture
def geti3() -> Iterator[GetiServer]:
    with GetiServer(World("3")) as server:
        yield server


def server_at(
    geti: GetiServer,
    organization_id: str | None = None,
    workspace_id: str | None = None,
    token: str | None = VALID_TOKEN,
) -> Server:
    return connect(transport_to(geti, token=lambda _: token), organization_id, workspace_id, allow_legacy=False)


@pytest.mark.parametrize(("profile", "version"), [("2.10", "2.10.0"), ("2.13", "2.13.1")])
@pytest.mark.parametrize("form", ["single", "list"])
def test_host_and_token_are_enough_for_geti_2(geti: GetiServer, profile: str, version: str, form: str) -> None:
    geti.profile, geti.organization_form = profile, form

    info = server_at(geti).info

    assert info == ServerInfo(
        major=2, version=version, organization_id=geti.world.organization_id, workspace_id=geti.world.workspace_id
    )
    assert [asked.route for asked in geti.requests] == FOUND


@pytest.mark.parametrize("token", [None, VALID_TOKEN])
def test_the_host_is_enough_for_geti_3(geti3: GetiServer, token: str | None) -> None:
    assert server_at(geti3, token=token).info == ServerInfo(major=3, version="3.2.0")

    assert [asked.route for asked in geti3.requests] == ["unknown", "openapi"]


def test_nothing_is_asked_before_it_is_needed_and_then_once(geti: GetiServer) -> None:
    server = server_at(geti)
    assert not geti.requests

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: server.projects(), range(16)))

    assert [geti.counts[route] for route in FOUND] == [1, 1, 1]
    assert server.requests == 16 + 3


def test_what_failed_is_tried_again_by_the_next(geti: GetiServer) -> None:
    server = server_at(geti)
    geti.fail("workspaces", 507, times=1)

    with pytest.raises(GetiBusy):
        server.projects()

    assert server.projects() == ()


def test_what_the_operator_says_is_not_asked_for(geti: GetiServer) -> None:
    server = server_at(geti, geti.world.organization_id, geti.world.workspace_id)

    assert server.projects() == ()
    assert [asked.route for asked in geti.requests] == ["product_info", "projects"]


def test_the_operator_chooses_between_workspaces() -> None:
    world = World(workspaces=("Line 1", "Line 2"))
    first, second = world.workspaces
    made = world.project(workspace_id=second)

    with GetiServer(world) as geti:
        with pytest.raises(GetiMisconfigured, match=rf"GETI_WORKSPACE_ID to one of {first} \(Line 1\), {second} \(Li"):
            server_at(geti).projects()
        assert [one.id for one in server_at(geti, workspace_id=second).projects()] == [made.id]


def test_a_user_without_workspace_is_told(geti: GetiServer) -> None:
    geti.fail("workspaces", status=200, body={"workspaces": []})

    with pytest.raises(GetiMisconfigured, match="sees no workspace"):
        server_at(geti).projects()


def test_a_token_without_organization_is_told(geti: GetiServer) -> None:
    geti.fail("token_organization", status=200, body={"organizations": []})

    with pytest.raises(GetiMisconfigured, match="is of no organization"):
        server_at(geti).projects()


@pytest.mark.parametrize("is_asked_for_first", [True, False])
def test_geti_2_without_a_token_says_what_to_set(geti: GetiServer, is_asked_for_first: bool) -> None:
    if not is_asked_for_first:
        geti.fail("product_info", status=200, body={"product-version": "2.13.1"})

    with pytest.raises(GetiMisconfigured, match=r"wants a token.* [Ss]et GETI_TOKEN") as raised:
        server_at(geti, token=None).projects()

    assert type(raised.value) is GetiMisconfigured
    assert len(geti.requests) == 1


def test_a_token_that_is_refused_is_no_sign_of_another_version(geti: GetiServer) -> None:
    geti.is_token_expired = True

    with pytest.raises(GetiUnauthorized, match="Access token is expired"):
        server_at(geti).projects()

    assert [asked.route for asked in geti.requests] == ["product_info"]


def test_an_organization_that_is_not_the_tokens_is_refused(geti: GetiServer) -> None:
    with pytest.raises(GetiUnauthorized, match="GETI_ORGANIZATION_ID"):
        server_at(geti, organization_id="another").projects()


@pytest.mark.parametrize("text", ["../admin", "a b", "x" * 200])
def test_an_id_that_cannot_be_one_is_told_by_its_setting(geti: GetiServer, text: str) -> None:
    with pytest.raises(GetiMisconfigured, match="GETI_ORGANIZATION_ID is "):
        server_at(geti, organization_id=text).projects()
    with pytest.raises(GetiMisconfigured, match="GETI_WORKSPACE_ID is "):
        server_at(geti, workspace_id=text).projects()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<html>", "is no Geti 2 and no Geti 3: GET /api/v1/product_info was answered with an HTML page"),
        ({"info": {"title": "Shop", "version": "1.0"}}, "no Geti that is known: its documentation says 1.0"),
        ({"product": "other"}, "no Geti that is known: its documentation says no version"),
        ([], "is no Geti 2 and no Geti 3: In the answer to GET /api/v1/product_info, all of it is not an object"),
    ],
)
def test_another_server_is_no_geti(geti: GetiServer, body: object, text: str) -> None:
    kind = "text/html" if body == b"<html>" else "application/json"
    geti.fail(status=200, body=body, headers={"Content-Type": kind})

    with pytest.raises(NotGeti, match=text):
        server_at(geti).projects()


def test_a_geti_that_is_busy_is_no_other_version(geti: GetiServer) -> None:
    geti.fail("product_info", 503)

    with pytest.raises(GetiBusy):
        server_at(geti).projects()

    assert set(geti.counts) == {"product_info"}


def test_a_server_that_is_upgraded_goes_on_in_between() -> None:
    world = World("2.10")
    world.populate(projects=2)

    with GetiServer(world) as geti, closing(transport_to(geti)) as transport:
        server = connect(transport, None, None, allow_legacy=True)
        before = server.projects()
        geti.profile = "2.13"

        assert server.projects() == before
