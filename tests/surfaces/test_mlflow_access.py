"""Every call of MLflow's API for every kind of caller: a call without a rule here has no test, and fails."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from chalicelib.registry.access import Access, Actor, Project, Role
from chalicelib.surfaces.mlflow.protocol import Call
from chalicelib.surfaces.mlflow.routes import mlflow
from chalicelib.wiring import granting
from tests.mlflow_calls import Answer, call
from tests.surfaces.conftest import Service

CALLS = sorted(mlflow.calls, key=lambda one: (one.path, one.method))
VISION, AUDIO = Project(name="vision"), Project(name="audio")
NAME, VERSION = {"name": "vision.cat"}, {"name": "vision.cat", "version": "1"}
LOWER = {Role.VIEWER: (), Role.PUBLISHER: ("viewer",), Role.ADMIN: ("viewer", "publisher")}
SECRET = "vision"  # of the project that others must not learn of
MODEL = {"artifact_path": "model", "flavors": {}, "run_id": "x", "utc_time_created": "2026-01-01"}
METRIC = {"key": "loss", "value": 0.5, "timestamp": 1}


@dataclass(frozen=True)
class Rule:
    """What is sent, what who may is answered, and what an admin of another project is."""

    allowed: int = 200
    outside: int = 404
    sent: Mapping[str, Any] | None = None
    asked: Mapping[str, Any] | None = None


RULES = {
    "list_artifacts": Rule(asked={"path": "{tree}"}),
    "delete_artifacts": Rule(),
    "download_artifact": Rule(404),
    "upload_artifact": Rule(sent={}),
    "abort_multipart_upload": Rule(sent={"path": "a.bin", "upload_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}),
    "complete_multipart_upload": Rule(404, sent={"path": "a.bin", "upload_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}),
    "create_multipart_upload": Rule(sent={"path": "a.bin", "num_parts": 1}),
    "get_presigned_download_url": Rule(404),
    "list_run_artifacts": Rule(asked={"run_id": "{run}"}),
    "create_experiment": Rule(outside=200, sent={"name": "another"}),
    "delete_experiment": Rule(sent={"experiment_id": "{experiment}"}),
    "get_experiment": Rule(asked={"experiment_id": "{experiment}"}),
    "get_experiment_by_name": Rule(asked={"experiment_name": "trial"}),
    "restore_experiment": Rule(404, sent={"experiment_id": "{experiment}"}),
    "search_experiments": Rule(outside=200, sent={}),
    "set_experiment_tag": Rule(sent={"experiment_id": "{experiment}", "key": "a", "value": "b"}),
    "delete_experiment_tag": Rule(404, sent={"experiment_id": "{experiment}", "key": "absent"}),
    "update_experiment": Rule(sent={"experiment_id": "{experiment}", "new_name": "other"}),
    "create_logged_model": Rule(sent={"experiment_id": "{experiment}"}),
    "search_logged_models": Rule(outside=200, sent={"experiment_ids": ["{experiment}"]}),
    "get_logged_model": Rule(),
    "delete_logged_model": Rule(),
    "list_logged_model_artifacts": Rule(),
    "finalize_logged_model": Rule(sent={"status": "LOGGED_MODEL_READY"}),
    "log_logged_model_params": Rule(sent={"params": [{"key": "a", "value": "b"}]}),
    "set_logged_model_tags": Rule(sent={"tags": [{"key": "a", "value": "b"}]}),
    "delete_logged_model_tag": Rule(404),
    "get_metric_history": Rule(asked={"run_id": "{run}", "metric_key": "loss"}),
    "create_model_version": Rule(sent={**NAME, "source": "s3://elsewhere/model"}),
    "delete_model_version": Rule(sent=VERSION),
    "delete_model_version_tag": Rule(sent={**VERSION, "key": "a"}),
    "get_model_version": Rule(asked=VERSION),
    "get_model_version_download_uri": Rule(asked=VERSION),
    "search_model_versions": Rule(outside=200, asked={"filter": "name = 'vision.cat'"}),
    "set_model_version_tag": Rule(sent={**VERSION, "key": "a", "value": "b"}),
    "transition_model_version_stage": Rule(sent={**VERSION, "stage": "Staging", "archive_existing_versions": False}),
    "update_model_version": Rule(sent={**VERSION, "description": "x"}),
    "delete_registered_model_alias": Rule(sent={**NAME, "alias": "best"}),
    "get_model_version_by_alias": Rule(asked={**NAME, "alias": "best"}),
    "set_registered_model_alias": Rule(sent={**NAME, "alias": "other", "version": "1"}),
    "create_registered_model": Rule(outside=200, sent={"name": "bird"}),
    "delete_registered_model": Rule(sent=NAME),
    "delete_registered_model_tag": Rule(sent={**NAME, "key": "a"}),
    "get_registered_model": Rule(asked=NAME),
    "get_latest_versions": Rule(sent=NAME, asked=NAME),
    "rename_registered_model": Rule(sent={**NAME, "new_name": "vision.lion"}),
    "search_registered_models": Rule(outside=200),
    "set_registered_model_tag": Rule(sent={**NAME, "key": "a", "value": "b"}),
    "update_registered_model": Rule(sent={**NAME, "description": "x"}),
    "create_run": Rule(sent={"experiment_id": "{experiment}"}),
    "delete_run": Rule(sent={"run_id": "{run}"}),
    "delete_run_tag": Rule(sent={"run_id": "{run}", "key": "mlflow.runName"}),
    "get_run": Rule(asked={"run_id": "{run}"}),
    "log_batch": Rule(sent={"run_id": "{run}", "metrics": [METRIC]}),
    "log_metric": Rule(sent={"run_id": "{run}", **METRIC}),
    "log_parameter": Rule(sent={"run_id": "{run}", "key": "a", "value": "b"}),
    "log_outputs": Rule(sent={"run_id": "{run}", "models": [{"model_id": "{model}"}]}),
    "log_inputs": Rule(sent={"run_id": "{run}", "models": [{"model_id": "{model}"}]}),
    "log_model": Rule(sent={"run_id": "{run}", "model_json": f" {json.dumps(MODEL)}"}),
    "restore_run": Rule(sent={"run_id": "{run}"}),
    "search_runs": Rule(outside=200, sent={"experiment_ids": ["{experiment}"]}),
    "set_run_tag": Rule(sent={"run_id": "{run}", "key": "a", "value": "b"}),
    "update_run": Rule(sent={"run_id": "{run}", "status": "FINISHED"}),
}


@pytest.fixture
def access() -> str:
    return "token"


class Stage:
    """A registered model with a version, and a run with a logged model, in a project; a caller of each kind."""

    def __init__(self) -> None:
        everyone = Actor()
        granted = {role.value: Access(role=role, projects=(VISION,)) for role in Role}
        granted["audio"] = Access(projects=(AUDIO,))
        self.tokens = {name: granting().create(name, one, None, everyone)[1] for name, one in granted.items()}
        self._made("registered-models/create", name="cat")
        self._made("model-versions/create", name="cat", source="s3://elsewhere/model")
        self._made("registered-models/alias", name="cat", alias="best", version="1")
        experiment = self._made("experiments/create", name="trial")["experiment_id"]
        run = self._made("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
        model = self._made("logged-models", experiment_id=experiment)["model"]["info"]["model_id"]
        self._known = {"experiment": experiment, "run": run, "model": model, "model_id": model, "key": "absent"}
        self._known["tree"] = f"{experiment}/models/{model}/artifacts"
        self._known["directory"], self._known["path"] = self._known["tree"], f"{self._known['tree']}/a.txt"

    def _made(self, path: str, **body: Any) -> Any:
        answer = call("POST", f"/api/2.0/mlflow/{path}", body, self.tokens["admin"])
        assert answer.status == 200, answer
        return answer.body

    def ask(self, one: Call, token: str | None) -> Answer:
        rule = RULES[one.name]
        path = one.path.replace("+}", "}").format(**self._known)
        if one.method == "GET":
            query = urlencode(self._filled(rule.asked or {}))
            return call("GET", f"/api/{path}?{query}", None, token)
        return call(one.method, f"/api/{path}", self._filled(rule.sent or {}), token)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self._filled(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._filled(part) for part in value]
        return value.format(**self._known) if isinstance(value, str) and value.startswith("{") else value


@pytest.fixture
def stage(service: Service) -> Stage:
    return Stage()


by_call = pytest.mark.parametrize("one", CALLS, ids=lambda one: f"{one.method} {one.name}")


@by_call
def test_every_call_has_a_rule(one: Call) -> None:
    assert one.name in RULES


def test_each_path_is_answered_by_one_call() -> None:
    assert len({(one.method, one.path) for one in CALLS}) == len(CALLS)


def test_without_a_token_nothing_is_told(stage: Stage) -> None:
    answers = [stage.ask(one, token) for one in CALLS for token in (None, "mr_x")]

    assert {answer.status for answer in answers} == {401}
    assert {answer.body["error_code"] for answer in answers} == {"UNAUTHENTICATED"}
    assert all(answer.headers["WWW-Authenticate"].startswith("Bearer") for answer in answers)


def test_a_role_that_is_too_low_is_told_which_one_is_needed(stage: Stage) -> None:
    for one, name in ((each, lower) for each in CALLS for lower in LOWER[each.role]):
        answer = stage.ask(one, stage.tokens[name])

        assert (answer.status, answer.body["error_code"]) == (403, "PERMISSION_DENIED"), one.name
        assert f"needs a token of role {one.role}; yours is of role {name}" in answer.body["message"], one.name


@by_call
def test_the_least_role_that_is_needed_is_enough(stage: Stage, one: Call) -> None:
    answer = stage.ask(one, stage.tokens[one.role])

    assert answer.status == RULES[one.name].allowed, answer.body


def test_an_admin_of_another_project_sees_nothing_of_this_one(stage: Stage) -> None:
    for one in CALLS:
        answer = stage.ask(one, stage.tokens["audio"])

        assert answer.status == RULES[one.name].outside, (one.name, answer.body)
        told = str(answer.body).replace("vision.cat", "what was asked")
        assert SECRET not in told, one.name
        assert "trial" not in told.replace("'trial'", "what was asked"), one.name
