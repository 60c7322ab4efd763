"""Checkpoints as they are deployed: the function, its role, the bucket with its lock, and who reads them.

What was registered a moment ago is not in one yet: it becomes so ten minutes later, which no test waits for.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from infra.local.deploy import REGION, physical_names
from tests.stack import Stack

SCHEDULED = {
    "version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "aws.events", "account": "000000000000",
    "time": "2026-01-01T02:17:00Z", "region": REGION, "resources": [], "detail": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def written(stack: Stack) -> dict[str, Any]:
    """What the function answered."""
    called = stack.aws("lambda").invoke(FunctionName=stack.function("Checkpoint"), Payload=json.dumps(SCHEDULED))
    answer = json.loads(called["Payload"].read())
    assert "FunctionError" not in called, answer
    return dict(answer)


@pytest.fixture(scope="module")
def session(stack: Stack) -> dict[str, str]:
    """Credentials of the function's role."""
    arn = stack.aws("iam").get_role(RoleName=physical_names(stack.local)["CheckpointRole"])["Role"]["Arn"]
    found = stack.aws("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    return {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }


@pytest.fixture
def as_function(stack: Stack, session: dict[str, str]) -> Iterator[Any]:
    """Makes clients with the function's permissions."""
    made = []

    def client(service: str) -> Any:
        made.append(boto3.client(service, endpoint_url=stack.local.endpoint, region_name=REGION, **session))
        return made[-1]

    yield client
    for one in made:
        one.close()


def listed(stack: Stack) -> list[dict[str, Any]]:
    answer = requests.get(f"{stack.url}/checkpoints", timeout=30)
    assert answer.status_code == 200, answer.text
    return list(answer.json())


def test_the_function_writes_a_checkpoint_that_the_api_lists_and_s3_serves(
    stack: Stack, written: dict[str, Any]
) -> None:
    checkpoints = listed(stack)
    newest = checkpoints[0]

    content = requests.get(newest["url"], timeout=30).content
    assert (written["chains_broken"], written["is_finished"]) == (0, True)
    # At 02:17 the schedule itself may have been quicker, and one of the same minute is as good.
    assert written["checkpoints_written"] <= len(checkpoints) <= 2
    assert hashlib.sha256(content).hexdigest() == newest["sha256"]
    assert json.loads(content.splitlines()[-1]) == {"subjects": newest["subjects"]}
    days = datetime.fromisoformat(newest["retained_until"]) - datetime.fromisoformat(newest["written_at"])
    assert days.days in (364, 365)


def test_nobody_removes_a_checkpoint_that_is_locked(stack: Stack, written: dict[str, Any]) -> None:
    s3, bucket = stack.aws("s3"), stack.function("AuditBucket")
    [version] = s3.list_object_versions(Bucket=bucket, Prefix=listed(stack)[0]["key"])["Versions"]

    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


@pytest.mark.parametrize("bypass", [{}, {"BypassGovernanceRetention": True}])
def test_the_function_may_not_remove_a_checkpoint(stack: Stack, written: Any, as_function: Any, bypass: Any) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        as_function("s3").delete_object(Bucket=stack.function("AuditBucket"), Key=listed(stack)[0]["key"], **bypass)


def test_the_function_may_not_even_add_an_event(stack: Stack, as_function: Any) -> None:
    item = {"pk": {"S": "TEST#checkpoint"}, "sk": {"S": "000000000001"}}

    with pytest.raises(ClientError, match="AccessDenied"):
        as_function("dynamodb").put_item(TableName=stack.events_table, Item=item)


@pytest.mark.parametrize("attempt", ["scan", "get_item"])
def test_the_function_reads_no_more_of_the_tables_than_it_has_to(stack: Stack, as_function: Any, attempt: str) -> None:
    key = {"Key": {"pk": {"S": "x"}, "sk": {"S": "META"}}} if attempt == "get_item" else {}

    with pytest.raises(ClientError, match="AccessDenied"):
        getattr(as_function("dynamodb"), attempt)(TableName=stack.table, **key)


def test_the_trail_is_read_by_index_where_it_is_deployed(stack: Stack) -> None:
    indexes = stack.aws("dynamodb").describe_table(TableName=stack.events_table)["Table"]["GlobalSecondaryIndexes"]

    assert {index["IndexName"] for index in indexes} == {"by_day", "by_project"}
    assert requests.get(f"{stack.url}/events?limit=1", timeout=30).status_code == 200
