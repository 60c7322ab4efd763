"""`make run`: one line on standard output, a clean stop, and one clear sentence for everything that can be wrong."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from chalicelib.registry.tokens import digest_of, id_in, new_token_text
from infra.local import STACK
from infra.local.deploy import REGION
from tests.stack import Stack

NewStack = Callable[[], Stack]


@pytest.fixture(scope="module")
def served(new_stack: NewStack) -> Stack:
    """A stack whose tests stop it, or kill parts of it, and leave it running."""
    stack = new_stack()
    stack.start()
    return stack


def sentence(stack: Stack, **variables: str) -> str:
    """What a runner that cannot run says last."""
    process = stack.run(**variables)
    stdout, _ = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert "Traceback" not in stack.said
    return stack.said.splitlines()[-1]


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_the_only_line_on_standard_output_is_ready_and_the_base_url(served: Stack):
    assert served.stdout == f"READY {served.url}\n"
    assert requests.get(f"{served.url}/health", params={"deep": "true"}, timeout=30).status_code == 200


def test_a_second_start_finds_the_data_and_deploys_nothing(served: Stack):
    dynamodb = served.aws("dynamodb")
    item = {"pk": {"S": "KEPT"}, "sk": {"S": "META"}}
    dynamodb.put_item(TableName=served.table, Item=item)
    served.aws("s3").put_object(Bucket=served.bucket, Key="artifacts/kept", Body=b"kept")

    assert served.stop() == 0
    served.start(**served.settings)

    assert "Deploying" not in served.said
    assert dynamodb.get_item(TableName=served.table, Key=item)["Item"] == item
    answer = served.aws("s3").get_object(Bucket=served.bucket, Key="artifacts/kept")
    with answer["Body"] as body:
        assert body.read() == b"kept"


def test_a_setting_that_changed_is_deployed_even_after_a_deployment_that_was_interrupted(served: Stack):
    item = {"pk": {"S": "BEFORE"}, "sk": {"S": "META"}}
    served.aws("dynamodb").put_item(TableName=served.table, Item=item)
    served.stop()
    served.begin(DOWNLOAD_URL_SECONDS="66")
    until(lambda: "Deploying" in served.said)
    time.sleep(1)
    served.kill_runner()
    until(lambda: not served.processes)

    served.start(DOWNLOAD_URL_SECONDS="77")

    assert served.aws("dynamodb").get_item(TableName=served.table, Key=item)["Item"] == item
    assert deployed_environment(served)["DOWNLOAD_URL_SECONDS"] == "77"


def deployed_environment(stack: Stack) -> dict[str, str]:
    functions = stack.aws("lambda").list_functions()["Functions"]
    return functions[0]["Environment"]["Variables"]


def test_presigned_urls_never_share_the_host_of_the_api(served: Stack):
    environment = deployed_environment(served)

    assert environment["PUBLIC_URL"] == served.url
    assert environment["S3_PUBLIC_ENDPOINT"] == served.s3_endpoint
    assert not served.url.startswith(served.s3_endpoint)


def test_what_the_emulator_ignores_in_the_template_is_applied(served: Stack):
    time_to_live = served.aws("dynamodb").describe_time_to_live(TableName=served.table)["TimeToLiveDescription"]
    rules = served.aws("s3").get_bucket_lifecycle_configuration(Bucket=served.bucket)["Rules"]

    assert time_to_live == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}
    assert {"DaysAfterInitiation": 8} in [rule.get("AbortIncompleteMultipartUpload") for rule in rules]


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT, signal.SIGTERM]],
    ids=["told once", "told again and again"],
)
def test_a_stop_leaves_nothing_running(served: Stack, signals: list[signal.Signals]):
    requests.get(f"{served.url}/health", timeout=30)
    assert len(served.processes) > 1  # a function too

    assert served.stop(*signals) == 0

    assert served.processes == []
    assert served.said.endswith("Stopped.\n")
    assert (served.data_dir / "journal").stat().st_size == 0
    served.start()


def test_the_emulator_stops_and_saves_when_its_runner_is_killed(served: Stack):
    served.kill_runner()

    until(lambda: not served.processes)
    assert (served.data_dir / "journal").stat().st_size == 0
    served.start()


def test_a_runner_whose_emulator_dies_says_where_to_look(served: Stack):
    served.kill_emulator()

    assert served._end() == 1
    assert served.said.splitlines()[-1].endswith(f"its log is {served.data_dir / 'emulator.log'}.")
    served.start()


def test_without_a_word_about_access_everyone_on_this_machine_may_call(served: Stack):
    assert deployed_environment(served)["ACCESS"] == "open"
    assert requests.get(f"{served.url}/models", timeout=30).status_code == 200
    assert "token" not in served.said


@pytest.fixture
def asking_for_tokens(served: Stack) -> Iterator[Stack]:
    served.stop()
    served.start(ACCESS="token")
    yield served
    served.stop()
    served.start()


def test_with_tokens_it_says_how_to_get_the_first_one_which_then_opens_the_api(asking_for_tokens: Stack):
    served = asking_for_tokens
    models, text = f"{served.url}/models", new_token_text("01K9ZZB2M3N4P5Q6R7S8T9V0WX")

    before = requests.get(models, timeout=30)
    made, refused = first_token(served, text), first_token(served, new_token_text("01K9ZZB2M3N4P5Q6R7S8T9V0WY"))
    after = requests.get(models, headers={"Authorization": f"Bearer {text}"}, timeout=30)

    assert served.stdout == f"READY {served.url}\n"
    assert (
        f"modelreg admin bootstrap --stack {STACK} --region {REGION} --endpoint-url {served.s3_endpoint}" in served.said
    )
    assert requests.get(f"{served.url}/health", timeout=30).status_code == 200
    assert (before.status_code, after.status_code) == (401, 200)
    assert (made["outcome"], refused["outcome"]) == ("created", "refused")


def first_token(stack: Stack, text: str) -> dict[str, str]:
    """What the bootstrap function answers, called with AWS credentials."""
    payload = json.dumps({"id": id_in(text), "name": "admin", "digest": digest_of(text)})
    answer = stack.aws("lambda").invoke(FunctionName=stack.function("Bootstrap"), Payload=payload.encode())
    with answer["Payload"] as body:
        return dict(json.loads(body.read()))


def test_data_in_use_is_refused_naming_the_process(served: Stack, new_stack: NewStack):
    other = new_stack()

    said = sentence(other, DATA_DIR=str(served.data_dir))

    holder = (served.data_dir / "lock").read_text().split()[0]
    assert said == (
        f"The data directory {served.data_dir} is in use by process {holder}: "
        "stop it first, or choose another with DATA_DIR=..."
    )


def test_a_port_in_use_is_refused_naming_another(new_stack: NewStack):
    stack = new_stack()
    with socket.create_server(("127.0.0.1", stack.local.port)):
        said = sentence(stack)

    assert said == (
        f"Port {stack.local.port} is in use by another program: choose another, make run PORT={stack.local.port + 1}."
    )


def test_a_data_directory_that_cannot_be_written_is_refused(new_stack: NewStack, tmp_path: Path):
    (tmp_path / "file").touch()

    said = sentence(new_stack(), DATA_DIR=str(tmp_path / "file" / "data"))

    assert said.startswith(f"Cannot write to the data directory {tmp_path / 'file' / 'data'}")


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"PORT": "many"}, "PORT must be a number from 1 to 65535, not 'many'."),
        ({"PORT": "65536"}, "PORT must be a number from 1 to 65535, not '65536'."),
        ({"PACKAGE_DIR": "/nowhere"}, "PACKAGE_DIR must be what `python -m infra.package` made, not '/nowhere'."),
        ({"DOWNLOAD_URL_SECONDS": "never"}, "A setting cannot be used: DOWNLOAD_URL_SECONDS: "),
        ({"ACCESS": "closed"}, "A setting cannot be used: ACCESS: Input should be 'token' or 'open'."),
        ({"LOG_LEVEL": "LOUD"}, "A setting cannot be used: LOG_LEVEL: Input should be 'DEBUG', "),
        ({"POWERTOOLS_TRACE_DISABLED": "so so"}, "A setting cannot be used: POWERTOOLS_TRACE_DISABLED: "),
    ],
)
def test_a_variable_that_cannot_be_used_is_refused_by_name(new_stack: NewStack, variables: dict[str, str], reason: str):
    assert sentence(new_stack(), **variables).startswith(reason)


def test_a_damaged_journal_is_refused_and_left_as_it_is(new_stack: NewStack):
    stack = new_stack()
    journal = stack.data_dir / "journal"
    journal.write_text("00000000 []\n" * 2)

    said = sentence(stack)

    assert said.startswith(f"The journal {journal} is damaged in line 1. Restore the file from a copy, or delete")
    assert journal.read_text() == "00000000 []\n" * 2


def test_a_damaged_state_file_is_refused_and_left_as_it_is(new_stack: NewStack):
    stack = new_stack()
    state = stack.data_dir / "state" / "dynamodb.json"
    state.parent.mkdir()
    state.write_text('{"tables": ')

    said = sentence(stack)

    assert said.startswith(f"The saved state in {state.parent} cannot be read (Persistence: failed to load dynamodb")
    assert "Restore the file" in said
    assert state.read_text() == '{"tables": '


def test_help_lists_run(tmp_path: Path):
    listing = subprocess.run(["make", "help"], capture_output=True, text=True, check=True)

    assert "make run [PORT=4566] [DATA_DIR=.local]" in listing.stdout
