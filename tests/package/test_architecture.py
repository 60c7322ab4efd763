"""The shape of the code: who may import whom, what a cold start loads, and which names say nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from chalicelib.routing import SURFACES

ROOT = Path(__file__).parent.parent.parent
SOURCES = sorted([ROOT / "app.py", *(ROOT / "chalicelib").rglob("*.py")])
AWS = {"boto3", "botocore.session", "pynamodb", "mypy_boto3_s3", "aws_lambda_powertools"}
HTTP = {"chalice", "multipart"}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def packages_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def under(folder: str) -> list[Path]:
    return [path for path in SOURCES if path.is_relative_to(ROOT / "chalicelib" / folder)]


def ours(path: Path) -> set[str]:
    return {name for name in imports_of(path) if name.startswith("chalicelib.")}


@pytest.mark.parametrize("path", under("registry"), ids=module_of)
def test_the_domain_knows_neither_aws_nor_http(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"chalicelib", "pydantic", "rfc8785", "defusedxml"}

    assert packages_of(path) <= allowed
    assert all(name.startswith("chalicelib.registry") for name in ours(path))


@pytest.mark.parametrize("path", under("geti"), ids=module_of)
def test_the_sync_knows_the_domain_and_itself_only(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"chalicelib", "pydantic"}
    allowed |= {"urllib3"} if path.name == "transport.py" else set()

    assert packages_of(path) <= allowed
    assert all(name.startswith(("chalicelib.registry", "chalicelib.geti")) for name in ours(path))


@pytest.mark.parametrize("path", under("store"), ids=module_of)
def test_the_store_knows_what_it_keeps_and_itself_only(path: Path) -> None:
    kept = ("chalicelib.registry", "chalicelib.geti", "chalicelib.store")

    assert all(name.startswith(kept) for name in ours(path))
    assert not packages_of(path) & HTTP


@pytest.mark.parametrize("path", [path for path in SOURCES if path not in under("store")], ids=module_of)
def test_only_the_store_and_the_wiring_import_an_aws_sdk(path: Path) -> None:
    allowed = {"boto3", "botocore.session", "mypy_boto3_s3"} if path.name == "wiring.py" else set()
    allowed |= {"aws_lambda_powertools"} if path.name == "telemetry.py" else set()

    assert packages_of(path) & AWS <= allowed


@pytest.mark.parametrize("path", under("surfaces"), ids=module_of)
def test_surfaces_reach_the_store_only_through_the_wiring(path: Path) -> None:
    assert not any(name.startswith("chalicelib.store") for name in ours(path))


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name != "settings.py"], ids=module_of)
def test_only_settings_read_the_environment(path: Path) -> None:
    read = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}

    assert not (read | {name.split(".")[-1] for name in imports_of(path)}) & {"environ", "environb", "getenv"}


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_modules_are_few_and_named_after_what_they_do(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "base", "manager", "handler", "misc", "impl"}
    assert len(path.read_text().splitlines()) <= 420


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_nothing_that_is_shipped_opens_a_connection_of_its_own_or_starts_a_program(path: Path) -> None:
    # Whatever leads outside goes through the AWS SDK, which the tests above keep to the store and the wiring, or to
    # Geti, through the one module that speaks HTTP with it.
    opening = {"socket", "ssl", "requests", "httpx", "urllib3", "aiohttp", "ftplib", "smtplib", "subprocess", "pty"}
    allowed = {"ssl", "urllib3"} if path == ROOT / "chalicelib/geti/transport.py" else set()

    assert packages_of(path) & opening <= allowed
    assert not imports_of(path) & {"urllib.request", "http.client", "xmlrpc.client"}


def cold_start(code: str) -> str:
    """What a fresh interpreter prints that has no environment, credentials or network."""
    blocked = "import socket; socket.socket.connect = None; socket.getaddrinfo = None\n"
    run = subprocess.run(
        [sys.executable, "-c", blocked + code],
        cwd=ROOT,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_importing_the_app_needs_no_environment_and_no_network() -> None:
    cold_start("import app")


def test_a_cold_start_loads_nothing_that_it_may_not_need() -> None:
    loaded = set(cold_start("import app, sys; print('\\n'.join(sys.modules))").split())

    assert not loaded & {"boto3", "botocore.session", "pynamodb", "aws_xray_sdk", "ulid", "defusedxml"}
    assert not loaded & {"requests", "moto"}
    assert not loaded & {"chalice.cli", "chalice.deploy", "aws_lambda_powertools.utilities.idempotency"}
    assert not {name for name in loaded if name.startswith(("chalicelib.surfaces", "chalicelib.store"))}


def test_a_request_loads_no_surface_but_its_own() -> None:
    loaded = cold_start(
        "import sys; from app import app; app.routes['/models']; print('\\n'.join(sys.modules))"
    ).split()

    assert {name for name in loaded if name.startswith("chalicelib.surfaces.")} == {
        "chalicelib.surfaces.models",
        "chalicelib.surfaces.model_fields",
    }


def test_a_path_that_nobody_answers_is_no_route() -> None:
    code = "from app import app; print('/models' in app.routes, '/modelz' in app.routes, '/modelz' in list(app.routes))"

    assert cold_start(code).split() == ["True", "False", "False"]


def test_each_surface_has_the_paths_that_it_is_found_by() -> None:
    code = """
from chalice import Chalice
from chalicelib.routing import SURFACES, surface
for name in SURFACES:
    alone = Chalice('alone')
    alone.register_blueprint(surface(name))
    print(name, *sorted(alone.routes))
"""
    assert cold_start(code).splitlines() == [" ".join([name, *sorted(paths)]) for name, paths in SURFACES.items()]


def test_every_lambda_function_is_declared_in_app() -> None:
    decorators = {
        "schedule",
        "on_sqs_message",
        "on_dynamodb_record",
        "on_kinesis_record",
        "lambda_function",
        "on_cw_event",
    }
    elsewhere = [
        module_of(path)
        for path in SOURCES
        if path.name != "app.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if decorators & {part.attr for part in ast.walk(decorator) if isinstance(part, ast.Attribute)}
    ]

    assert elsewhere == []
