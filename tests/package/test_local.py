"""What `make run` makes of the packaged template and of what the operator said."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.local.overlay import Local, overlaid
from infra.local.queues import return_message
from infra.local.runner import _SCHEDULE, CannotRunError, Options, _emulator_environment
from infra.package import ROOT

Json = dict[str, Any]
TOKEN = "geti_pat_Q3J5c3RhbGxpbmU"


def options(**environment: str) -> Options:
    return Options.of(environment)


def events(template: Json, local: Local, function: str) -> Json:
    found: Json = overlaid(template, local)["Resources"][function]["Properties"]["Events"]
    return found


def test_the_sync_does_not_run_without_a_server(template: Json) -> None:
    [event] = events(template, options().local, "Sync").values()

    assert event["Properties"] == {"Schedule": "rate(15 minutes)", "State": "DISABLED"}


def test_the_sync_runs_when_the_operator_says(template: Json) -> None:
    said = options(GETI_HOST="geti.example.com", GETI_SYNC_SCHEDULE="cron(0 3 * * ? *)")

    [event] = events(template, said.local, "Sync").values()

    assert event["Properties"] == {"Schedule": "cron(0 3 * * ? *)", "State": "ENABLED"}


def test_what_else_has_a_schedule_keeps_it(template: Json) -> None:
    said = options(GETI_HOST="geti.example.com", GETI_SYNC_SCHEDULE="rate(1 minute)")

    [event] = events(template, said.local, "Sweep").values()

    assert event == template["Resources"]["Sweep"]["Properties"]["Events"]["SweepEvent"]


@pytest.mark.parametrize(
    "schedule", ["often", "rate(2 minute)", "rate(0 minutes)", "cron(0 3 * *)", "rate(1 minute)\n"]
)
def test_a_schedule_that_would_never_come_is_refused_by_name(schedule: str) -> None:
    with pytest.raises(CannotRunError, match="GETI_SYNC_SCHEDULE"):
        options(GETI_SYNC_SCHEDULE=schedule)


def test_the_template_takes_the_same_schedules(template: Json) -> None:
    assert template["Parameters"]["GetiSyncSchedule"]["AllowedPattern"] == _SCHEDULE


@pytest.mark.parametrize(("concurrency", "at_once"), [("", 2), ("1", 2), ("5", 5)])
def test_as_many_imports_run_at_once_as_on_aws_said_as_a_number(template: Json, concurrency: str, at_once: int) -> None:
    [source] = events(template, options(GETI_CONCURRENCY=concurrency).local, "ImportModel").values()

    assert source["Properties"]["ScalingConfig"] == {"MaximumConcurrency": at_once}


def test_the_settings_of_geti_reach_the_functions(template: Json) -> None:
    said = options(GETI_HOST="geti.example.com", GETI_WORKSPACE_ID="w-1")

    variables = overlaid(template, said.local)["Resources"]["ImportModel"]["Properties"]["Environment"]["Variables"]

    assert variables["GETI_HOST"] == "geti.example.com"
    assert variables["GETI_WORKSPACE_ID"] == "w-1"


def test_the_token_of_geti_is_inherited_and_not_in_the_template(template: Json, tmp_path: Path) -> None:
    said = options(GETI_HOST="geti.example.com", GETI_TOKEN=TOKEN)

    local = overlaid(template, said.local)

    assert TOKEN not in json.dumps(local)
    assert TOKEN not in repr(said)
    for name in ("APIHandler", "Sync", "ImportModel"):
        # One that is set, be it to nothing, would win.
        assert "GETI_TOKEN" not in local["Resources"][name]["Properties"]["Environment"]["Variables"]
    assert _emulator_environment(said, tmp_path)["GETI_TOKEN"] == TOKEN


def test_a_refusal_of_a_setting_tells_no_token() -> None:
    with pytest.raises(CannotRunError, match="GETI_HOST") as refused:
        options(GETI_HOST="http://geti.example.com", GETI_TOKEN=TOKEN)

    assert TOKEN not in str(refused.value)


def test_the_file_of_certificates_is_found_from_wherever_a_function_runs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ca.pem").touch()

    said = options(GETI_CA_BUNDLE="ca.pem").local.settings["GETI_CA_BUNDLE"]

    assert Path(said) == tmp_path / "ca.pem"


def test_a_file_of_certificates_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match=r"GETI_CA_BUNDLE .*/ca\.pem"):
        options(GETI_CA_BUNDLE=str(tmp_path / "ca.pem"))


def test_the_text_of_certificates_stays_as_it_is() -> None:
    text = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

    assert options(GETI_CA_BUNDLE=text).local.settings["GETI_CA_BUNDLE"] == text


def test_two_signals_at_once_are_one_stop() -> None:
    # As Ctrl-C in a terminal, and whoever started the runner, who then ends it too.
    both = """
import os, signal
from infra.local import runner
def serve(_):
    numbers = [signal.SIGINT, signal.SIGTERM]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
runner._serve = serve
raise SystemExit(runner.run({}))
"""

    run = subprocess.run([sys.executable, "-c", both], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (0, "Stopped.\n")


def test_what_the_deployment_sets_by_itself_is_not_taken_from_the_operator() -> None:
    elsewhere = "https://elsewhere.example.com"
    settings = options(IMPORT_QUEUE_URL=elsewhere, SYNC_FUNCTION="other", ERRAND_QUEUE_URL=elsewhere).local.settings

    assert settings == {}


def test_policies_that_refuse_plain_http_are_left_out_where_there_is_no_other(template: Json) -> None:
    left = {resource["Type"] for resource in overlaid(template, Local(4566))["Resources"].values()}

    assert not left & {"AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy"}


def test_a_message_that_a_stop_interrupted_comes_again_at_once_and_was_not_tried() -> None:
    message = {"receive_count": 2, "visible_at": 5400.0}

    return_message(message, now=100.0)

    assert message == {"receive_count": 1, "visible_at": 100.0}


@pytest.mark.parametrize(
    "message", [{"receive_count": 0, "visible_at": 900.0}, {"receive_count": 2, "visible_at": 90.0}]
)
def test_a_message_that_waits_goes_on_waiting(message: dict[str, Any]) -> None:
    before = dict(message)

    return_message(message, now=100.0)

    assert message == before
