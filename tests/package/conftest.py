"""The package as it is deployed: made once per run, or not at all when nothing changed since the last one."""

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from infra.package import TEMPLATE, packaged

Template = dict[str, Any]


@pytest.fixture(scope="session")
def package() -> Path:
    return packaged()


@pytest.fixture(scope="session")
def template(package: Path) -> Template:
    content: Template = json.loads((package / TEMPLATE).read_text())
    return content


@pytest.fixture(scope="session")
def resources(template: Template) -> Template:
    """The properties of every resource by its name."""
    return {name: resource.get("Properties", {}) for name, resource in template["Resources"].items()}


@pytest.fixture(scope="session")
def functions(template: Template) -> Template:
    """The properties of every Lambda function by its name."""
    found = {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    assert "APIHandler" in found
    return found


@pytest.fixture(scope="session")
def code(package: Path) -> ZipFile:
    """The archive of our code."""
    return ZipFile(package / "deployment.zip")


@pytest.fixture(scope="session")
def dependencies(package: Path) -> ZipFile:
    """The archive of the dependencies."""
    return ZipFile(package / "layer-deployment.zip")
