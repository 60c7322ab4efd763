"""A setting that cannot be used: the caller gets a clean 500, the log names the variable and never tells its value."""

import json
from collections.abc import Callable

import pytest

from chalicelib import telemetry, wiring
from chalicelib.settings import SettingsError
from tests.conftest import forget_what_was_made
from tests.log_lines import captured

WRONG = {
    "ACCESS": "s3cret",
    "REGISTRY_TABLE": "",
    "ARTIFACT_BUCKET": "x",
    "AUDIT_BUCKET": "x",
    "PUBLIC_URL": "s3cret",
    "DOWNLOAD_URL_SECONDS": "s3cret",
    "POWERTOOLS_LOG_LEVEL": "s3cret",
}


@pytest.fixture
def misconfigured(service, monkeypatch) -> Callable[[str], None]:
    """Sets a variable wrong, in a container that has not answered yet."""

    def make(variable: str) -> None:
        monkeypatch.setenv(variable, WRONG[variable])
        forget_what_was_made()

    return make


@pytest.mark.parametrize("variable", WRONG)
@pytest.mark.parametrize(("method", "path"), [("GET", "/models"), ("DELETE", "/models/model-detector-v1")])
def test_a_wrong_setting_is_named_in_the_log_and_answered_with_500(service, misconfigured, variable, method, path):
    misconfigured(variable)

    answer = service.request(method, path)

    [line] = [line for line in service.lines if line.get("message") == "unexpected_error"]
    assert (answer.status_code, answer.json_body) == (500, {"detail": "Internal server error."})
    assert (line["level"], line["exception_name"]) == ("ERROR", "SettingsError")
    assert f"SettingsError: {variable}: " in line["exception"]
    assert "s3cret" not in json.dumps(service.lines) + answer.body.decode()


@pytest.mark.parametrize("variable", WRONG)
def test_health_needs_no_settings(service, misconfigured, variable):
    misconfigured(variable)

    assert service.request("GET", "/health").status_code == 200


FIRST_TOKEN = {"id": "0" * 26, "name": "admin", "digest": "0" * 64}
INVOKED = {"sweep": lambda: wiring.swept(lambda: 60_000), "bootstrap": lambda: wiring.bootstrapped(FIRST_TOKEN)}


@pytest.mark.parametrize("name", INVOKED)
def test_a_function_without_a_caller_fails_and_names_the_variable(misconfigured, name):
    misconfigured("ACCESS")

    # Lambda logs it, and the alarm on the function's errors rings.
    with pytest.raises(SettingsError, match=r"^ACCESS: "):
        INVOKED[name]()


def test_a_level_of_the_log_that_does_not_exist_does_not_keep_the_log_from_saying_so(misconfigured):
    misconfigured("POWERTOOLS_LOG_LEVEL")
    telemetry.log.cache_clear()

    with captured() as lines:
        telemetry.bug_line(ValueError("x"))

    assert len(lines) == 1
