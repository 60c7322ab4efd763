"""Tokens through the gateway: the first admin's, and clients in the field that have one in their base URL."""

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import requests

from chalicelib.registry.tokens import digest_of, new_token_text
from tests.e2e.strict_stack import Api, unique
from tests.e2e.test_field_clients import DEPLOYMENT, curl, files_in, time_series_service, video_pipeline_server
from tests.e2e.test_mlflow_client import RIGHT, found, ran
from tests.stack import Stack


def bootstrap(stack: Stack, text: str) -> dict[str, str]:
    """Ask the function that only IAM lets somebody ask."""
    event = {"id": text[3:29], "name": "ops", "digest": digest_of(text)}
    answer = stack.aws("lambda").invoke(FunctionName=stack.function("Bootstrap"), Payload=json.dumps(event))
    return json.loads(answer["Payload"].read())


def some_token() -> str:
    return new_token_text("01" + "".join(secrets.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for _ in range(24)))


@pytest.fixture(scope="module")
def admin(api: Api) -> Iterator[str]:
    """The token of the first admin of a registry that asks for tokens, until this module is done."""
    functions, name = api.stack.aws("lambda"), api.stack.function("APIHandler")
    before = functions.get_function_configuration(FunctionName=name)["Environment"]
    text = some_token()
    assert bootstrap(api.stack, text)["outcome"] == "created"
    variables = {"Variables": before["Variables"] | {"ACCESS": "token"}}
    functions.update_function_configuration(FunctionName=name, Environment=variables)
    try:
        yield text
    finally:
        functions.update_function_configuration(FunctionName=name, Environment=before)


@pytest.fixture(scope="module")
def viewer(api: Api, admin: str) -> str:
    answer = api.request("POST", "/tokens", json={"name": "line 3", "role": "viewer"}, auth=("admin", admin))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


@pytest.fixture
def name(api: Api, admin: str) -> str:
    """The name of a model that there is."""
    stated = {"name": unique("detector"), "version": "v1"}
    files = {"file": ("model.zip", DEPLOYMENT, "application/zip")}
    answer = api.request("POST", "/models", data=stated, files=files, headers={"Authorization": f"Bearer {admin}"})
    assert answer.status_code == 201, answer.text
    return stated["name"]


def with_credentials(url: str, token: str) -> str:
    return url.replace("http://", f"http://anyone:{token}@")


def test_there_is_one_first_admin(api: Api, admin: str) -> None:
    refused = bootstrap(api.stack, some_token())

    assert refused["outcome"] == "refused"
    assert "There is an admin already" in refused["reason"]


def test_a_bootstrap_of_something_else_says_what_is_needed(api: Api) -> None:
    answer = api.stack.aws("lambda").invoke(FunctionName=api.stack.function("Bootstrap"), Payload=b'{"id": "x"}')

    assert json.loads(answer["Payload"].read()) == {
        "outcome": "refused",
        "reason": "Send id (26 of 0-9 and A-Z), name, and digest (SHA-256 of the token, in lower-case hexadecimal).",
    }


def test_a_field_client_needs_only_a_token_in_its_base_url(api: Api, viewer: str, name: str, tmp_path: Path) -> None:
    url = with_credentials(api.url, viewer)

    folder = video_pipeline_server(url, tmp_path, name=name, version="v1")

    assert "deployment/model.json" in files_in(folder)
    assert "deployment/model.json" in files_in(time_series_service(url, tmp_path / "second", name, "v1"))


def with_requests(url: str, token: str) -> bytes:
    return requests.get(with_credentials(url, token), timeout=60).content


def with_httpx(url: str, token: str) -> bytes:
    return httpx.get(with_credentials(url, token), follow_redirects=True, timeout=60).content


def with_bearer(url: str, token: str) -> bytes:
    return requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60).content


def with_curl(url: str, token: str) -> bytes:
    return curl("-L", "-u", f"anyone:{token}", url)


@pytest.mark.parametrize("download", [with_requests, with_httpx, with_bearer, with_curl])
def test_no_token_is_carried_on_to_s3(api: Api, viewer: str, name: str, download: Callable[[str, str], bytes]) -> None:
    [model] = requests.get(f"{with_credentials(api.url, viewer)}/models", params={"name": name}, timeout=60).json()

    # The strict S3 refuses a presigned request that carries an Authorization header too.
    assert download(f"{api.url}/models/{model['id']}/files", viewer) == DEPLOYMENT


def test_without_a_token_nothing_is_served_but_what_tells_nothing(api: Api, admin: str) -> None:
    refused = api.get("/models")

    assert refused.status_code == 401
    assert refused.json()["detail"].startswith("This needs a token.")
    # As the gateway of a REST API calls it.
    assert refused.headers["x-amzn-Remapped-WWW-Authenticate"].startswith("Bearer")
    assert api.get("/health?deep=true").status_code == 200
    assert api.get("/openapi.json").status_code == 200


def test_a_viewer_is_told_which_role_it_needs(api: Api, viewer: str) -> None:
    answer = api.request("DELETE", "/models/no-such-model-at-all", auth=("", viewer))

    assert (answer.status_code, answer.json()) == (
        403,
        {"detail": "This needs a token of role admin; yours is of role viewer."},
    )


def new_token(api: Api, admin: str, **stated: object) -> str:
    answer = api.request("POST", "/tokens", json=stated, auth=("admin", admin))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def test_mlflows_clients_do_what_their_tokens_allow(api: Api, admin: str, viewer: str, tmp_path: Path) -> None:
    name = unique("tokens")
    tokens = {
        "ADMIN": admin,
        "PUBLISHER": new_token(api, admin, name="training", role="publisher"),
        "VIEWER": viewer,
        "VISION": new_token(api, admin, name="vision", role="publisher", projects=[{"name": "vision"}]),
    }

    results = ran("roles.py", api.url, tmp_path, NAME=name, **tokens)

    version, refused = found(results, "publisher")
    assert version == 1
    assert (refused["code"], "admin" in refused["message"]) == ("PERMISSION_DENIED", True)
    predictions, *refusals = found(results, "viewer")
    assert predictions == RIGHT
    assert [(one["code"], "publisher" in one["message"]) for one in refusals] == [("PERMISSION_DENIED", True)] * 2
    assert found(results, "of_a_project") == [True, [f"vision.{name}"], 1]
    assert {one["code"] for one in found(results, "nobody")} == {"UNAUTHENTICATED"}
    assert found(results, "admin")["code"] == "RESOURCE_DOES_NOT_EXIST"

    trail = api.get("/events", params={"limit": "1000"}, auth=("admin", admin)).json()
    told = {(event["action"], event["actor"]["name"]) for event in trail}
    assert {("registered_model.created", "training"), ("registered_model.deleted", "ops")} <= told
    assert not any(token in str(results) for token in tokens.values())
