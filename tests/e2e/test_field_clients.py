"""Clients in the field, unmodified: their requests in their order, with their libraries, and their ways to unzip."""

import io
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import requests

from tests.conftest import ARCHIVE, zip_of
from tests.e2e.strict_stack import Api, unique

TOKEN = "s3cret-token"
DEPLOYMENT = zip_of(**{"deployment/model.json": "{}", "deployment/model/model.xml": "<net/>"})
FOLDERED = zip_of(**{"detector/": "", "detector/model.xml": "<net/>", "detector/model.bin": "weights"})


def with_credentials(url: str) -> str:
    """The base URL as people write it who have a token."""
    return url.replace("http://", f"http://user:{TOKEN}@")


def video_pipeline_server(base_url: str, target: Path, **filters: str) -> Path:
    """Find exactly one model, download it, and unzip it into a folder named after it."""
    models = requests.get(f"{base_url}/models", params=filters, timeout=60)
    assert models.status_code == 200, models.text
    (model,) = models.json()
    answer = requests.get(f"{base_url}/models/{model['id']}/files", timeout=60)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/zip"
    folder = target / f"{model['name']}_{model['version']}_{model['precision'][0]}"
    folder.mkdir()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        first = archive.namelist()[0]
        for name in archive.namelist():
            kept = name if "deployment" in first else name.replace(first, "", 1)
            if kept and not kept.endswith("/"):
                file = folder / PurePosixPath(kept)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.read(name))
    return folder


def time_series_service(base_url: str, target: Path, name: str, version: str) -> Path:
    """Take the first model that is found, download it, and unzip it."""
    models = requests.get(f"{base_url}/models?name={name}&version={version}", timeout=60).json()
    answer = requests.get(f"{base_url}/models/{models[0]['id']}/files", timeout=60)
    answer.raise_for_status()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(target)
    return target


def files_in(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("archive", "files"),
    [
        (DEPLOYMENT, {"deployment/model.json", "deployment/model/model.xml"}),
        (FOLDERED, {"model.xml", "model.bin"}),
    ],
)
@pytest.mark.parametrize("base_url_of", [str, with_credentials], ids=["plain", "with-credentials"])
def test_the_video_pipeline_server_gets_its_model(
    api: Api, tmp_path: Path, archive: bytes, files: set[str], base_url_of: Callable[[str], str]
):
    name = unique("detector")
    api.register(archive, name=name, version="v1", precision="FP16")
    api.register(archive, name=name, version="v2", precision="FP16")

    folder = video_pipeline_server(base_url_of(api.url), tmp_path, name=name, version="v1", precision="fp16")

    assert folder.name == f"{name}_v1_fp16"
    assert files_in(folder) == files


@pytest.mark.parametrize(
    "asked",
    [
        ("name",),
        ("name", "version"),
        ("project_name", "category"),
        ("architecture", "precision", "project_name"),
        ("name", "version", "precision", "project_name", "category", "architecture"),
    ],
)
def test_the_video_pipeline_server_may_ask_with_any_of_its_filters(api: Api, tmp_path: Path, asked: tuple[str, ...]):
    mark = unique("mark")
    fields = {
        "name": f"detector {mark}",
        "version": "v1",
        "precision": "int8",
        "project_name": f"line {mark}",
        "category": f"detection {mark}",
        "architecture": f"yolox {mark}",
    }
    api.register(DEPLOYMENT, **fields)

    folder = video_pipeline_server(api.url, tmp_path, **{name: fields[name] for name in asked})

    assert "deployment/model.json" in files_in(folder)


@pytest.mark.parametrize("base_url_of", [str, with_credentials], ids=["plain", "with-credentials"])
def test_the_time_series_service_gets_the_newest_model(api: Api, tmp_path: Path, base_url_of: Callable[[str], str]):
    name = unique("forecast").replace(" ", "-")
    api.register(name=name, version="v1", precision="fp32")
    newest = zip_of(newest__txt="weights")
    api.register(newest, name=name, version="v1", precision="fp16")

    folder = time_series_service(base_url_of(api.url), tmp_path, name, "v1")

    assert files_in(folder) == {"newest.txt"}


def with_requests(url: str) -> bytes:
    return requests.get(url, timeout=60).content


def with_httpx(url: str) -> bytes:
    return httpx.get(url, follow_redirects=True, timeout=60).content


def with_curl(url: str) -> bytes:
    return curl("-L", url)


def curl(*arguments: str) -> bytes:
    program = shutil.which("curl") or pytest.fail("curl is not installed")
    command = [program, "--silent", "--show-error", "--noproxy", "*", "--max-time", "60", *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize("download", [with_requests, with_httpx, with_curl])
def test_a_token_for_the_api_never_reaches_s3(api: Api, download: Callable[[str], bytes]):
    model_id = api.register()
    api.gateway.seen.clear()
    api.s3.seen.clear()

    content = download(f"{with_credentials(api.url)}/models/{model_id}/files")

    assert content == ARCHIVE
    assert [request.header("authorization")[:6] for request in api.gateway.seen] == ["Basic "]
    assert [(request.method, request.header("authorization")) for request in api.s3.seen] == [("GET", None)]


def test_a_presigned_url_with_credentials_is_refused_by_s3_itself(api: Api):
    url = api.get(f"/models/{api.register()}/files").headers["Location"]

    assert requests.get(url, auth=("user", TOKEN), timeout=60).status_code == 400


def test_s3_is_never_on_the_host_and_port_of_the_api(api: Api):
    location = urlsplit(api.get(f"/models/{api.register()}/files").headers["Location"])

    assert location.netloc != urlsplit(api.url).netloc
    assert (location.hostname, urlsplit(api.stack.url).hostname) == ("127.0.0.1", "localhost")


def test_curl_registers_changes_lists_and_downloads(api: Api, tmp_path: Path):
    archive, name = tmp_path / "model.zip", unique("curled")
    archive.write_bytes(ARCHIVE)

    model_id = curl(
        "-F", f"name={name}", "-F", "version=v1", "-F", f"file=@{archive};type=application/zip", f"{api.url}/models"
    )
    multipart = curl(
        "-X", "PUT", "-F", "score=0.5", "-F", "category=Detection", f"{api.url}/models/{model_id.decode()}"
    )
    urlencoded = curl("-X", "PUT", "-d", "score=0&architecture=", f"{api.url}/models/{model_id.decode()}")

    assert (multipart, urlencoded) == (b'{"status":"completed"}', b'{"status":"completed"}')
    model = api.model(model_id.decode())
    assert (model["name"], model["category"], model["score"]) == (name, "Detection", 0.0)
    assert curl("-L", f"{api.url}/models/{model_id.decode()}/files") == ARCHIVE
    assert curl("-L", "-r", "2-5", f"{api.url}/models/{model_id.decode()}/files") == ARCHIVE[2:6]


def test_curl_sends_large_forms_only_after_being_asked_to_continue(api: Api, tmp_path: Path):
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("model.bin", bytes(range(256)) * 8_000)

    answer = curl(
        *("-F", f"name={unique('curled')}", "-F", "version=v1", "-F", f"file=@{archive};type=application/zip"),
        *("-H", "Expect: 100-continue", f"{api.url}/models"),
    )

    assert api.model(answer.decode())["size"] == archive.stat().st_size


def test_httpx_registers_with_its_own_forms(api: Api):
    data: dict[str, Any] = {"name": unique("httpx"), "version": "v1", "labels": "['a', 'b']"}

    answer = httpx.post(
        f"{api.url}/models", data=data, files={"file": ("m.zip", ARCHIVE, "application/zip")}, timeout=60
    )

    assert answer.status_code == 201
    assert api.model(answer.text)["labels"] == ["a", "b"]
