"""What MLflow's registry promises its clients, rule by rule; tests/mlflow compares with MLflow's own server."""

import time
from typing import Any

import pytest
from botocore.client import BaseClient

from chalicelib.settings import settings
from tests.mlflow_calls import Answer, call
from tests.surfaces.conftest import ID, Service

MODELS, VERSIONS = "/api/2.0/mlflow/registered-models", "/api/2.0/mlflow/model-versions"
CAT, FIRST = {"name": "cat"}, {"name": "cat", "version": "1"}
PROMPT = {"key": "mlflow.prompt.is_prompt", "value": "true"}


@pytest.fixture(autouse=True)
def cat(service: Service) -> None:
    """A registered model, without versions."""
    made(f"{MODELS}/create", **CAT)


def made(path: str, /, **body: Any) -> Any:
    answer = call("POST", path, body)
    assert answer.status == 200, answer
    return answer.body


def version(source: str = "s3://elsewhere/model", **more: Any) -> Any:
    return made(f"{VERSIONS}/create", **CAT, source=source, **more)["model_version"]


def model() -> Any:
    return call("GET", f"{MODELS}/get", **CAT).body["registered_model"]


def refused(answer: Answer, status: int = 400, code: str = "INVALID_PARAMETER_VALUE") -> str:
    assert (answer.status, answer.body["error_code"]) == (status, code)
    return str(answer.body["message"])


def test_a_name_that_is_taken_is_an_error_that_register_model_goes_on_after() -> None:
    message = refused(call("POST", f"{MODELS}/create", CAT), 400, "RESOURCE_ALREADY_EXISTS")

    assert message == "Registered Model (name=cat) already exists."


def test_a_number_is_not_given_again_but_starts_anew_with_a_new_model() -> None:
    version()
    call("DELETE", f"{VERSIONS}/delete", FIRST)
    second = version()
    call("DELETE", f"{MODELS}/delete", CAT)
    made(f"{MODELS}/create", **CAT)

    assert [second["version"], version()["version"]] == ["2", "1"]


def test_a_number_is_read_as_python_reads_it() -> None:
    version()

    assert call("GET", f"{VERSIONS}/get", **CAT, version="01").body["model_version"]["version"] == "1"
    assert "must be an integer, got 'x'" in refused(call("GET", f"{VERSIONS}/get", **CAT, version="x"))


@pytest.mark.parametrize("number", ["0", "-1", "2", "9" * 11, "9" * 4_000])
def test_a_number_that_there_is_not_is_not_found(number: str) -> None:
    version()

    assert refused(call("GET", f"{VERSIONS}/get", **CAT, version=number), 404, "RESOURCE_DOES_NOT_EXIST")


def test_a_stage_that_is_not_active_archives_nothing_and_says_so() -> None:
    version()
    body = {**FIRST, "stage": "Archived", "archive_existing_versions": True}

    assert "is not an Active stage" in refused(call("POST", f"{VERSIONS}/transition-stage", body))


def test_the_others_of_a_stage_are_archived_with_the_transition() -> None:
    version(), version()
    made(f"{VERSIONS}/transition-stage", **FIRST, stage="staging")
    made(f"{VERSIONS}/transition-stage", **CAT, version="2", stage="Staging", archive_existing_versions=True)

    assert {one["version"]: one["current_stage"] for one in model()["latest_versions"]} == {
        "1": "Archived",
        "2": "Staging",
    }


def test_the_newest_version_is_that_of_the_highest_number_in_whatever_stage() -> None:
    version(), version(), version()
    made(f"{VERSIONS}/transition-stage", **CAT, version="3", stage="Archived")

    latest = call("GET", f"{MODELS}/alias", **CAT, alias="Latest").body["model_version"]

    assert latest["version"] == "3"


def test_an_alias_that_there_is_not_is_refused_and_not_missed() -> None:
    assert refused(call("GET", f"{MODELS}/alias", **CAT, alias="nope")) == "Registered model alias nope not found."
    assert call("DELETE", f"{MODELS}/alias", {**CAT, "alias": "nope"}).status == 200


@pytest.mark.parametrize("alias", ["latest", "LATEST", "v1", "V22", "a b", "x" * 256])
def test_an_alias_that_means_something_else_cannot_be_set(alias: str) -> None:
    version()

    refused(call("POST", f"{MODELS}/alias", {**FIRST, "alias": alias}))


def test_an_alias_goes_with_its_version() -> None:
    version()
    made(f"{MODELS}/alias", **FIRST, alias="best")
    call("DELETE", f"{VERSIONS}/delete", FIRST)

    assert "aliases" not in model()


@pytest.mark.parametrize("is_aliased", [True, False])
@pytest.mark.parametrize("stage", ["None", "Staging"])
def test_the_end_of_a_version_is_a_change_of_its_model(is_aliased: bool, stage: str) -> None:
    version()
    if is_aliased:
        made(f"{MODELS}/alias", **FIRST, alias="best")
    made(f"{VERSIONS}/transition-stage", **FIRST, stage=stage)
    before = model()["last_updated_timestamp"]
    time.sleep(0.002)

    call("DELETE", f"{VERSIONS}/delete", FIRST)

    assert model()["last_updated_timestamp"] > before


def test_a_tag_may_be_large_and_three_of_them_are_kept() -> None:
    for key in "abc":
        made(f"{MODELS}/set-tag", **CAT, key=key, value=key * 100_000)

    assert [len(tag["value"]) for tag in model()["tags"]] == [100_000] * 3
    refused(call("POST", f"{MODELS}/set-tag", {**CAT, "key": "d", "value": "d" * 100_001}))


@pytest.mark.parametrize("count", [0, -1])
@pytest.mark.parametrize("path", [MODELS, VERSIONS])
def test_less_than_one_result_cannot_be_asked_for(path: str, count: int) -> None:
    assert "positive integer" in refused(call("GET", f"{path}/search", max_results=count))


def test_searches_leave_prompts_out_unless_asked() -> None:
    made(f"{MODELS}/create", name="ask", tags=[PROMPT])

    def names(**query: str) -> list[str]:
        return [one["name"] for one in call("GET", f"{MODELS}/search", **query).body["registered_models"]]

    assert names() == ["cat"]
    assert names(filter="tags.`mlflow.prompt.is_prompt` = 'true'") == ["ask"]


def test_a_version_of_a_logged_model_of_elsewhere_is_taken_and_says_so() -> None:
    taken = version("models:/m-1234", model_id="m-1234")

    assert (taken["source"], taken["status"]) == ("models:/m-1234", "READY")
    assert "not known here" in taken["status_message"]
    assert call("GET", f"{VERSIONS}/get-download-uri", **FIRST).body == {"artifact_uri": "models:/m-1234"}


class Logged:
    """A run and a model that it logged, with a file each."""

    def __init__(self) -> None:
        self.experiment = made("/api/2.0/mlflow/experiments/create", name="trial")["experiment_id"]
        self.run = made("/api/2.0/mlflow/runs/create", experiment_id=self.experiment)["run"]["info"]["run_id"]
        stated = {"experiment_id": self.experiment, "source_run_id": self.run}
        self.model = made("/api/2.0/mlflow/logged-models", **stated)["model"]["info"]["model_id"]
        self.of_model = f"{self.experiment}/models/{self.model}/artifacts"
        self.of_run = f"{self.experiment}/{self.run}/artifacts"
        for path in (f"{self.of_model}/MLmodel", f"{self.of_run}/net/MLmodel"):
            assert call("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", b"flavors: {}").status == 200

    def sources(self) -> list[dict[str, str]]:
        """Every way to name what is logged."""
        return [
            {"source": f"models:/{self.model}", "model_id": self.model},
            {"source": f"mlflow-artifacts:/{self.of_model}", "model_id": self.model},
            {"source": f"runs:/{self.run}/net", "run_id": self.run},
            {"source": f"runs:/{self.run}", "run_id": self.run},
            {"source": f"mlflow-artifacts:/{self.of_run}/net", "run_id": self.run},
        ]


def test_a_version_of_what_is_logged_here_has_its_files_and_its_run() -> None:
    logged = Logged()
    versions = [version(**stated) for stated in logged.sources()]

    files = [
        call("GET", f"/api/2.0/mlflow-artifacts/artifacts?path={uri.removeprefix('mlflow-artifacts:/')}").body
        for one in versions
        for uri in [call("GET", f"{VERSIONS}/get-download-uri", **CAT, version=one["version"]).body["artifact_uri"]]
    ]

    assert {one.get("status_message") for one in versions} == {None}
    assert {one["run_id"] for one in versions} == {logged.run}
    assert [file["path"] for found in files for file in found["files"]] == [
        "MLmodel",
        "MLmodel",
        "MLmodel",
        "net",
        "MLmodel",
    ]


def test_what_is_logged_is_named_by_who_says_whose_it_is() -> None:
    logged = Logged()

    for stated in logged.sources():
        other = {"run_id": "another", "model_id": "m-another"}
        for wrong in ({}, {name: other[name] for name in stated if name != "source"}):
            refused(call("POST", f"{VERSIONS}/create", {**CAT, "source": stated["source"], **wrong}))


def test_where_no_file_is_no_version_can_be() -> None:
    logged = Logged()
    body = {**CAT, "source": f"runs:/{logged.run}/absent", "run_id": logged.run}

    assert "There are no files at it" in refused(call("POST", f"{VERSIONS}/create", body))


def test_a_copy_is_got_from_where_the_original_is() -> None:
    version("s3://elsewhere/model", run_id="a-run")
    made(f"{MODELS}/create", name="dog")

    copied = made(f"{VERSIONS}/create", name="dog", source="models:/cat/1")["model_version"]

    assert (copied["source"], copied["run_id"]) == ("models:/cat/1", "a-run")
    uri = call("GET", f"{VERSIONS}/get-download-uri", name="dog", version="1").body
    assert uri == {"artifact_uri": "s3://elsewhere/model"}


@pytest.mark.parametrize(
    "source",
    [
        *(
            "/etc/passwd",
            "file:///etc",
            "a/b",
            "c:/a",
            "s3://b/%252e%252e/a",
            "s3://b/a/../c",
            "https://[h/a",
            "s3://b",
        ),
        *("runs:/abc/model", "mlflow-artifacts:/1/abc/artifacts", "models:/m-1234", "models:/cat/1/2", "x" * 2_001),
        *("mlflow-artifacts:/versions/0123456789abcdef/artifacts", "models://host/cat/1", "s3://b/a%00"),
    ],
)
def test_a_source_that_is_not_the_callers_is_refused(source: str) -> None:
    refused(call("POST", f"{VERSIONS}/create", {**CAT, "source": source}))


@pytest.mark.parametrize("scheme", ["s3", "S3", "s3a", "s3n"])
def test_what_is_kept_here_is_not_named_by_its_address(scheme: str) -> None:
    source = f"{scheme}://{settings().artifact_bucket}/artifacts/01ARZ3NDEKTSV4RRFFQ69G5FAV/model.zip"

    assert "in the bucket of this registry" in refused(call("POST", f"{VERSIONS}/create", {**CAT, "source": source}))


def test_a_version_of_the_model_registry_api_is_got_from_here(service: Service) -> None:
    service.register(name="cat")

    found = call("GET", f"{VERSIONS}/get", **FIRST).body["model_version"]

    assert found["source"] == f"mlflow-artifacts:/versions/{ID}/artifacts"


def test_a_field_may_be_stated_in_the_spelling_of_json_but_not_twice() -> None:
    assert version(runId="a-run")["run_id"] == "a-run"
    body = {**CAT, "source": "s3://b/a", "runId": "a", "run_id": "b"}
    assert "provide only one" in refused(call("POST", f"{VERSIONS}/create", body))


@pytest.mark.parametrize("path", ["webhooks", "webhooks/1/test", "traces/search", "gateway/routes", "users/get"])
def test_what_mlflow_has_and_this_has_not_is_told(service: Service, path: str) -> None:
    message = refused(call("POST", f"/api/2.0/mlflow/{path}", {}), 501, "NOT_IMPLEMENTED")

    assert "docs/mlflow.md" in message


def test_a_path_that_nobody_has_is_no_endpoint() -> None:
    refused(call("GET", "/ajax-api/2.0/nothing"), 404, "ENDPOINT_NOT_FOUND")


def test_the_methods_of_a_path_are_told_to_who_asks_with_another() -> None:
    answer = call("PATCH", f"{MODELS}/alias", CAT)

    refused(answer, 405, "ENDPOINT_NOT_FOUND")
    assert answer.headers["Allow"] == "DELETE, GET, POST"


def test_the_log_says_which_call_it_was(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    call("GET", f"{MODELS}/get", **CAT)

    assert '"operation":"get_registered_model"' in capsys.readouterr().out


@pytest.fixture
def aws_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the calls of AWS from now on."""
    names: list[str] = []
    plain = BaseClient._make_api_call

    def counting(client: BaseClient, name: str, stated: Any) -> Any:
        names.append(name)
        return plain(client, name, stated)

    monkeypatch.setattr(BaseClient, "_make_api_call", counting)
    return names


def test_a_registered_model_without_versions_costs_one_call(aws_calls: list[str]) -> None:
    model()

    assert aws_calls == ["BatchGetItem"]


@pytest.mark.parametrize("name", ["cats.and dogs", "vision.cat", "a.b.c", ".cat", "cat."])
def test_a_name_with_a_dot_is_found_whether_it_begins_with_a_project_or_not(name: str) -> None:
    call("POST", f"{MODELS}/create", {"name": name})
    call("POST", f"{MODELS}/create", {"name": "other", "tags": [{"key": "registry.project", "value": "audio"}]})

    assert call("GET", f"{MODELS}/get", name=name).body["registered_model"]["name"] == name
    assert call("GET", f"{MODELS}/get", name="audio.other").body["registered_model"]["name"] == "audio.other"
    refused(call("GET", f"{MODELS}/get", name="other"), 404, "RESOURCE_DOES_NOT_EXIST")


def test_a_registered_model_costs_two_calls_more_for_its_newest_versions(aws_calls: list[str]) -> None:
    version()
    aws_calls.clear()

    model()

    assert aws_calls == ["BatchGetItem"] * 3


def test_nothing_is_asked_of_aws_for_a_name_that_cannot_be(aws_calls: list[str]) -> None:
    refused(call("GET", f"{MODELS}/get", name="a/b"))

    assert aws_calls == []
