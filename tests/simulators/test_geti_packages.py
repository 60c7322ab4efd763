"""The simulated Geti 2 sends packages as its versions do, and bad ones on demand."""

import io
import resource
import zipfile
from pathlib import Path
from typing import Any

import pytest

from chalicelib.registry.archives import inspect_archive
from chalicelib.registry.errors import InvalidArchive
from tests.simulators.asking_geti import Client, order, zip_of
from tests.simulators.geti import (
    GetiServer,
    Legacy,
    Model,
    World,
    packages,
)


def test_a_deployment_is_an_archive_that_the_registry_takes(world: World, client: Client):
    project = world.project("Bottle caps", tasks=["detection", "classification"], labels=["cap", "no cap"])
    models = [project.group(name, task).train() for task, name in enumerate(("SSD", "EfficientNet"))]

    answer = client.deploy(*(model["FP16"] for model in models))

    names = set(zip_of(answer).namelist())
    assert {
        f"deployment/{task}/model/model.{kind}" for task in ("Detection", "Classification") for kind in ("xml", "bin")
    } < names
    report = inspect_archive(io.BytesIO(answer.data))
    assert (report.format, report.labels, report.precision) == ("OpenVINO", ("cap", "no cap"), ("fp16",))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="Deployment-Bottle caps.zip"'
    assert int(answer.headers["Content-Length"]) == len(answer.data)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"package_type": None}, 422, None),
        ({"package_type": "tar"}, 400, "bad_request"),
        ({"models": []}, 400, "bad_request"),
        ({"models": [{"model_id": "f" * 24}]}, 404, "model_storage_not_found"),
    ],
)
def test_a_wrong_order_is_refused(model: Model, client: Client, change: dict[str, Any], status: int, code: str | None):
    body = {"package_type": "geti_sdk", "models": order(model["FP16"])} | change
    path = client.path(f"projects/{model.group.project.id}/deployment_package:download")

    answer = client.ask("POST", path, json={key: value for key, value in body.items() if value is not None})

    assert answer.status == status
    assert answer.json().get("error_code") == code
    assert ("package_type" in str(answer.json().get("detail"))) == (status == 422)


def test_only_finished_openvino_models_with_their_files_can_be_deployed(model: Model, client: Client):
    unfinished = model.optimize("INT8", status="NOT_READY")
    model["FP32"].purge()
    gone = model["FP16+XAI"]
    gone.delete()

    refusals = {one.spec: client.deploy(one) for one in (model["ONNX FP32"], unfinished, model["FP32"], gone)}

    assert {spec: (answer.status, answer.json()["error_code"]) for spec, answer in refusals.items()} == {
        "ONNX FP32": (400, "incompatible_model_format"),
        "INT8": (404, "exportable_code_not_found"),
        "FP32": (404, "exportable_code_not_found"),
        "FP16+XAI": (404, "model_not_found"),
    }


def test_a_project_without_media_has_nothing_to_deploy(model: Model, client: Client):
    model.group.project.has_media = False

    answer = client.deploy(model["FP16"])

    assert (answer.status, answer.data) == (204, b"")


@pytest.mark.parametrize(
    ("profile", "model_only", "names"),
    [
        ("2.13", "true", {"model.xml", "model.bin"}),
        ("2.13", "false", {"model.xml", "model.bin", "config.json"}),
        ("2.10", "true", {"openvino.xml", "openvino.bin"}),
        ("2.10", "false", {"model/model.xml", "model/model.bin", "model/config.json", "python/demo.py", "README.md"}),
    ],
)
def test_exports_are_laid_out_by_version(
    model: Model, client: Client, geti: GetiServer, profile: str, model_only: str, names: set[str]
):
    geti.profile = profile
    group = model.group
    base = f"projects/{group.project.id}/model_groups/{group.id}/models"

    path = client.path(f"{base}/any/optimized_models/{model['FP16'].id}/export?model_only={model_only}")
    answer = client.ask("GET", path)
    model.purge()
    purged = client.ask("GET", path)

    assert set(zip_of(answer).namelist()) == names
    assert (purged.status, purged.json()["error_code"]) == (422, "model_purging_not_possible")


def test_a_gigabyte_is_streamed_in_little_memory(model: Model, client: Client, geti: GetiServer):
    model["FP16"].pack(size=1024**3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    answer = client.deploy(model["FP16"], preload_content=False)
    size = sum(len(chunk) for chunk in answer.stream(1024**2))

    assert size == int(answer.headers["Content-Length"]) > 1024**3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert geti.downloads[0].is_complete


def test_archives_beyond_4_gib_say_their_sizes_and_hold_them():
    world = World()
    model = world.project().group().train().pack(size=4 * 1024**3 + 1)

    package = packages.deployment(world.projects[0], [model["FP16"], model["FP32"]])

    directory = package._directory(crcs_matter=False)
    assert package.size > 8 * 1024**3
    # The end of the archive is enough to read its directory, with the data before it left out.
    names = [name.filename for name in _listed(directory, package.size)]
    assert names == [entry.path for entry in package.entries]


def _listed(directory: bytes, size: int) -> list[zipfile.ZipInfo]:
    class Tail(io.RawIOBase):
        """A file of which only the end is there."""

        at = 0

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.at = offset + (0, self.at, size)[whence]
            return self.at

        def tell(self) -> int:
            return self.at

        def read(self, count: int = -1) -> bytes:
            start = self.at - (size - len(directory))
            assert start >= 0
            data = directory[start : None if count < 0 else start + count]
            self.at += len(data)
            return data

    with zipfile.ZipFile(Tail()) as archive:  # type: ignore[arg-type]
        return archive.infolist()


@pytest.mark.parametrize("damage", ["truncated", "traversal", "bomb", "not_zip", "empty"])
def test_hostile_packages_are_none_that_the_registry_takes(model: Model, client: Client, damage: str):
    model.pack(damage=damage)

    answer = client.deploy(model["FP16"])

    assert answer.status == 200
    with pytest.raises(InvalidArchive):
        inspect_archive(io.BytesIO(answer.data))


def test_packages_may_lack_a_part_have_two_models_or_be_any_bytes(model: Model, client: Client):
    def endings(**packing: Any) -> list[str]:
        model.pack(**packing)
        names = zip_of(client.deploy(model["FP16"])).namelist()
        return sorted(name[-4:] for name in names if name.endswith((".xml", ".bin")))

    assert endings(damage="no_bin") == [".xml"]
    assert endings(damage="no_xml") == [".bin"]
    assert endings(damage="two_models") == [".bin", ".bin", ".xml", ".xml"]
    model.pack(zip=b"bytes")
    assert client.deploy(model["FP16"]).data == b"bytes"


def test_a_real_network_may_be_packed(model: Model, client: Client, tmp_path: Path):
    (tmp_path / "model.xml").write_text("<net/>")
    (tmp_path / "model.bin").write_bytes(b"weights")
    model.pack(ir=tmp_path)

    archive = zip_of(client.deploy(model["FP16"]))

    assert archive.read("deployment/Detection/model/model.bin") == b"weights"


def test_packages_come_in_chunks_on_demand(model: Model, client: Client, geti: GetiServer):
    geti.is_chunked = True

    answer = client.deploy(model["FP16"])

    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.data == packages.deployment(model.group.project, [model["FP16"]]).read()


@pytest.fixture
def prepared(model: Model, client: Client, geti: GetiServer) -> str:
    """The path of a code deployment that was asked for."""
    geti.profile = "2.10"
    path = client.path(f"projects/{model.group.project.id}/code_deployments")
    answer = client.ask("POST", f"{path}:prepare", json={"models": order(model["FP16"])})
    assert (answer.status, answer.json()["state"]) == (200, "PREPARING")
    return f"{path}/{answer.json()['id']}"


def test_a_code_deployment_is_prepared_then_downloaded(client: Client, geti: GetiServer, prepared: str):
    early = client.ask("GET", f"{prepared}/download")
    states = [client.get(prepared)["state"] for _ in range(2)]

    assert (early.status, early.json()["error_code"]) == (503, "code_deployment_download_not_ready")
    assert states == ["PREPARING", "DONE"]
    zip_of(client.ask("GET", f"{prepared}/download"))


def test_a_code_deployment_fails_or_never_ends(client: Client, geti: GetiServer, prepared: str):
    geti.legacy = Legacy(polls=0, ends="FAILED", message="No space.")
    failed = client.get(prepared)
    geti.legacy = Legacy(ends="PREPARING")

    assert (failed["state"], failed["message"]) == ("FAILED", "No space.")
    assert {client.get(prepared)["state"] for _ in range(20)} == {"PREPARING"}


def test_the_download_may_lead_to_the_file_service(client: Client, geti: GetiServer, prepared: str):
    geti.legacy = Legacy(polls=0, redirects=True, not_ready=1)
    client.get(prepared)

    refused = client.ask("GET", f"{prepared}/download")
    answer = client.ask("GET", f"{prepared}/download", redirect=False)

    assert (refused.status, answer.status) == (503, 307)
    assert answer.headers["Location"].startswith(f"{geti.url}/api/v1/fileservice/")
    zip_of(client.pool.request("GET", answer.headers["Location"]))


def test_a_token_that_is_sent_to_the_file_service_fails_the_test(world: World):
    server = GetiServer(world)
    client = Client(server.__enter__())
    client.ask("GET", "/api/v1/fileservice/x")
    client.pool.clear()

    with pytest.raises(AssertionError, match="x-api-key was sent"):
        server.__exit__(None, None, None)


def test_a_code_deployment_goes_with_its_model(model: Model, client: Client, geti: GetiServer, prepared: str):
    geti.on("code_deployment_download", model.delete)
    geti.legacy = Legacy(polls=0)
    client.get(prepared)

    answer = client.ask("GET", f"{prepared}/download")

    assert (answer.status, answer.json()["error_code"]) == (404, "code_deployment_not_found")


def test_2_13_has_no_code_deployments(client: Client, geti: GetiServer, prepared: str):
    geti.profile = "2.13"

    answer = client.ask("GET", prepared)

    assert (answer.status, list(answer.json())) == (404, ["endpoint_not_found_response"])
    assert client.get("/api/v1/product_info")["product-version"] == "2.13.1"


def test_a_route_may_be_missing_from_a_version(model: Model, client: Client, geti: GetiServer):
    geti.version, geti.missing_routes = "2.8.0", {"deployment_package"}

    answer = client.deploy(model["FP16"])

    assert (answer.status, list(answer.json())) == (404, ["endpoint_not_found_response"])
    assert client.get("/api/v1/product_info")["product-version"] == "2.8.0"
