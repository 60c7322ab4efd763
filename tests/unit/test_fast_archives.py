"""What is taken out of the packaged archives, and what is put in."""

import marshal
import re
import zipfile
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from infra.archives import KEPT_SERVICES, make_fast
from infra.package import ROOT

SITE = "python/lib/python3.11/site-packages"


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    path = tmp_path / "layer.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{SITE}/library/__init__.py", "ANSWER = 42\n")
        packed.writestr(f"{SITE}/botocore/data/dynamodb/2012-08-10/service-2.json.gz", b"needed")
        packed.writestr(f"{SITE}/botocore/data/ec2/2016-11-15/service-2.json.gz", b"large")
        packed.writestr(f"{SITE}/botocore/data/endpoints.json", b"{}")
    return path


def fast(layer: Path) -> zipfile.ZipFile:
    make_fast(layer, layer, "/opt")
    return zipfile.ZipFile(layer)


def test_services_that_are_never_called_are_left_out(layer: Path):
    with fast(layer) as packed:
        data = {name.removeprefix(f"{SITE}/botocore/data/") for name in packed.namelist() if "/data/" in name}

    assert data == {"dynamodb/2012-08-10/service-2.json.gz", "endpoints.json"}


def test_byte_code_is_shipped_unchecked_and_names_the_files_lambda_has(layer: Path):
    with fast(layer) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".pyc"))
        byte_code = packed.read(name)

    assert byte_code[:4] == MAGIC_NUMBER
    assert byte_code[4:8] == b"\x01\x00\x00\x00"  # PEP 552: hash-based, not to be checked
    code = marshal.loads(byte_code[16:])
    assert code.co_filename == f"/opt/{SITE}/library/__init__.py"


def test_the_same_content_makes_the_same_archive(layer: Path, tmp_path: Path):
    make_fast(layer, tmp_path / "one.zip", "/opt")
    make_fast(layer, tmp_path / "two.zip", "/opt")

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_every_service_the_code_makes_a_client_of_is_kept():
    sources = "\n".join(path.read_text() for path in (ROOT / "chalicelib").rglob("*.py"))
    called = set(re.findall(r"""\b(?:client|resource)\(\s*["']([a-z0-9-]+)["']""", sources))

    assert called | {"dynamodb"} <= KEPT_SERVICES  # PynamoDB makes the client of DynamoDB
