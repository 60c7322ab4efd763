"""The ways to a package of Geti 2: made while one waits, exported, or deployed by a job as in old versions."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import closing

import pytest

from chalicelib.geti.connecting import connect
from chalicelib.geti.errors import GetiBusy, GetiGone, GetiNoSuchRoute, GetiRefused, GetiUnauthorized
from chalicelib.geti.ports import Server
from chalicelib.geti.records import OptimizedModel
from chalicelib.geti.records import Project as Seen
from chalicelib.geti.transport import Transport
from tests.geti_client import Time, transport_to
from tests.simulators.geti import GetiServer, Legacy, Model, World


@pytest.fixture(params=["2.10", "2.13"])
def geti(request: pytest.FixtureRequest) -> Iterator[GetiServer]:
    with GetiServer(World(), profile=request.param) as server:
        yield server


@pytest.fixture
def old() -> Iterator[GetiServer]:
    """One that has neither deployment packages nor exports."""
    with GetiServer(World(), profile="2.10") as server:
        server.fail("deployment_package", "no_route")
        server.fail("export", "no_route")
        yield server


@pytest.fixture
def time() -> Time:
    return Time()


def opened(geti: GetiServer, time: Time, allow_legacy: bool = False) -> tuple[Transport, Server]:
    transport = transport_to(geti, time)
    return transport, connect(transport, None, None, allow_legacy)


def trained(geti: GetiServer) -> Model:
    return geti.world.project("Bottle caps").group().train()


def order_of(model: Model) -> tuple[Seen, OptimizedModel]:
    """What its package is asked for by."""
    wanted = OptimizedModel(id=model["FP16"].id, name="x", version=1, base_model_id=model.id, group_id=model.group.id)
    return Seen(id=model.group.project.id, name="x"), wanted


def names_of(geti: GetiServer, time: Time, model: Model, allow_legacy: bool = False) -> list[str]:
    """What is in its package."""
    transport, server = opened(geti, time, allow_legacy)
    with closing(transport):
        return names(server, model)


def names(server: Server, model: Model) -> list[str]:
    with server.package(*order_of(model)) as package:
        content = b"".join(package.chunks)
        assert package.size in (None, len(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def routes(geti: GetiServer) -> list[str]:
    """What was asked for it, after what is always asked."""
    return [asked.route for asked in geti.requests][3:]


def test_a_deployment_package_is_asked_for_first(geti: GetiServer, time: Time) -> None:
    model = trained(geti)

    found = names_of(geti, time, model)

    assert "deployment/Detection/model/model.xml" in found
    assert routes(geti) == ["deployment_package"]
    assert geti.requests[-1].json == {
        "package_type": "geti_sdk",
        "models": [{"model_id": model["FP16"].id, "model_group_id": model.group.id}],
    }


def test_a_project_without_media_is_exported_each_time(geti: GetiServer, time: Time) -> None:
    model = trained(geti)
    model.group.project.has_media = False
    transport, server = opened(geti, time)

    with closing(transport):
        names(server, model)
        found = names(server, model)

    assert any(name.endswith("model.xml") for name in found)
    assert routes(geti) == ["deployment_package", "export"] * 2
    assert geti.requests[-1].query == {"model_only": "false"}
    assert len({asked.connection for asked in geti.requests}) == 1


def test_a_way_that_is_not_there_is_not_tried_again(geti: GetiServer, time: Time) -> None:
    model = trained(geti)
    geti.fail("deployment_package", "no_route")
    transport, server = opened(geti, time)

    with closing(transport):
        names(server, model)
        names(server, model)

    assert routes(geti) == ["deployment_package", "export", "export"]


def test_no_way_at_all_says_what_may_help(old: GetiServer, time: Time) -> None:
    model = trained(old)

    with pytest.raises(GetiNoSuchRoute, match="GETI_ALLOW_LEGACY_DEPLOYMENTS=true"):
        names_of(old, time, model)

    assert routes(old) == ["deployment_package", "export"]


def test_after_an_upgrade_a_way_that_was_not_there_is_found(old: GetiServer, time: Time) -> None:
    model = trained(old)
    transport, server = opened(old, time)

    with closing(transport):
        with pytest.raises(GetiNoSuchRoute):
            names(server, model)
        old.heal()
        names(server, model)

    assert routes(old)[-1] == "deployment_package"


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("model_not_found", GetiGone),
        ("exportable_code_not_found", GetiGone),
        ("incompatible_model_format", GetiRefused),
        ("model_purging_not_possible", GetiRefused),
        ("unauthorized", GetiUnauthorized),
        ("no_space", GetiBusy),
    ],
)
def test_an_error_of_one_way_is_no_reason_for_another(
    geti: GetiServer, time: Time, how: str, error: type[Exception]
) -> None:
    model = trained(geti)
    geti.fail("deployment_package", how)

    with pytest.raises(error):
        names_of(geti, time, model)

    assert set(routes(geti)) == {"deployment_package"}


def test_the_file_is_called_after_the_project(geti: GetiServer, time: Time) -> None:
    model = trained(geti)
    transport, server = opened(geti, time)

    with closing(transport), server.package(*order_of(model)) as package:
        assert package.file_name == "Deployment-Bottle caps.zip"
        assert package.size == geti.downloads[0].size


def test_a_file_without_a_name_is_called_after_the_model(geti: GetiServer, time: Time) -> None:
    model = trained(geti)
    geti.fail("deployment_package", status=200, body=b"PK", headers={"Content-Type": "application/zip"})
    transport, server = opened(geti, time)

    with closing(transport), server.package(*order_of(model)) as package:
        assert package.file_name == f"{model['FP16'].id}.zip"


# Code deployments.


@pytest.mark.parametrize("redirects", [False, True])
def test_an_old_geti_deploys_code_if_it_may(old: GetiServer, time: Time, redirects: bool) -> None:
    model = trained(old)
    old.legacy = Legacy(polls=5, not_ready=2, redirects=redirects)

    found = names_of(old, time, model, allow_legacy=True)

    assert "deployment/Detection/model/model.xml" in found
    assert old.counts["code_deployments_prepare"] == 1
    assert old.counts["code_deployment"] == 6
    assert time.slept[:6] == [2, 3, 5, 8, 15, 15]
    assert old.counts["code_deployment_download"] == 3
    assert old.counts["fileservice"] == int(redirects)
    assert not old.violations


def test_a_deployment_that_is_there_at_once_is_not_waited_for(old: GetiServer, time: Time) -> None:
    model = trained(old)
    old.legacy = Legacy(polls=0)

    names_of(old, time, model, allow_legacy=True)

    assert time.slept == [2]


def test_a_deployment_that_failed_says_why(old: GetiServer, time: Time) -> None:
    model = trained(old)
    old.legacy = Legacy(ends="FAILED", message="Model could not be converted.")

    with pytest.raises(GetiRefused, match=r"could not make the code deployment .*: Model could not be converted"):
        names_of(old, time, model, allow_legacy=True)

    assert old.counts["code_deployment_download"] == 0


def test_a_deployment_that_never_ends_is_given_up_after_ten_minutes(old: GetiServer, time: Time) -> None:
    model = trained(old)
    old.legacy = Legacy(ends="PREPARING")

    with pytest.raises(GetiBusy, match=r"in 10 minutes .*PREPARING.* A new one is made later"):
        names_of(old, time, model, allow_legacy=True)

    assert 570 < sum(time.slept) <= 600
    assert old.counts["code_deployments_prepare"] == 1


@pytest.mark.parametrize("how", [503, "drop"])
def test_a_deployment_is_never_asked_for_twice(old: GetiServer, time: Time, how: int | str) -> None:
    model = trained(old)
    old.fail("code_deployments_prepare", how)

    with pytest.raises(GetiBusy):
        names_of(old, time, model, allow_legacy=True)

    assert old.counts["code_deployments_prepare"] == 1


def test_a_model_that_is_deleted_between_the_job_and_the_download_is_gone(old: GetiServer, time: Time) -> None:
    model = trained(old)
    old.on("code_deployment_download", model.delete)

    with pytest.raises(GetiGone) as raised:
        names_of(old, time, model, allow_legacy=True)

    assert raised.value.geti_code == "code_deployment_not_found"


def test_a_download_that_leads_elsewhere_is_refused(old: GetiServer, time: Time) -> None:
    model = trained(old)
    old.legacy = Legacy(redirects=True, location="https://evil.example/x?X-Amz-Signature=presigned")

    with pytest.raises(GetiRefused, match="was redirected, but not to a place on") as raised:
        names_of(old, time, model, allow_legacy=True)

    assert "presigned" not in str(raised.value)


def test_a_geti_that_has_deployment_packages_makes_no_code_deployments(geti: GetiServer, time: Time) -> None:
    model = trained(geti)

    names_of(geti, time, model, allow_legacy=True)

    assert routes(geti) == ["deployment_package"]


def test_a_geti_that_is_upgraded_has_lost_its_code_deployments(old: GetiServer, time: Time) -> None:
    model = trained(old)
    transport, server = opened(old, time, allow_legacy=True)

    with closing(transport):
        names(server, model)
        old.profile = "2.13"
        with pytest.raises(GetiNoSuchRoute):
            names(server, model)
        old.heal()
        names(server, model)

    assert routes(old)[-1] == "deployment_package"


def test_the_first_package_after_an_upgrade_comes_too(old: GetiServer, time: Time) -> None:
    model = trained(old)
    transport, server = opened(old, time, allow_legacy=True)

    with closing(transport):
        names(server, model)
        old.profile = "2.13"
        old.heal()
        found = names(server, model)

    assert "deployment/Detection/model/model.xml" in found
    assert routes(old)[-2:] == ["unknown", "deployment_package"]


@pytest.mark.parametrize("text", ["../x", "", "a/b"])
def test_no_package_is_asked_for_by_an_id_that_is_none(geti: GetiServer, time: Time, text: str) -> None:
    transport, server = opened(geti, time)
    model = OptimizedModel(id=text, name="x", version=1, base_model_id="b1", group_id="g1")

    with closing(transport), pytest.raises(GetiRefused, match="no id of Geti's"):
        server.package(Seen(id="p1", name="x"), model).__enter__()

    assert "deployment_package" not in routes(geti)
