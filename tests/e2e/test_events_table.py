"""The audit trail can be added to and read, never rewritten: by the function's own permissions.

The denials are tried as a role that has the function's policy and, by somebody's mistake, another that allows
everything: what is refused then is denied, not merely not granted. PartiQL is left to the test of the template,
for the emulator asks for other permissions there than AWS does.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.local.deploy import REGION, physical_names
from tests.e2e.strict_stack import unique
from tests.stack import Stack

EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def dynamodb_as(stack: Stack, role: str) -> Any:
    """DynamoDB with the permissions of a role."""
    arn = stack.aws("iam").get_role(RoleName=role)["Role"]["Arn"]
    session = stack.aws("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    return boto3.client(
        "dynamodb",
        endpoint_url=stack.local.endpoint,
        region_name=REGION,
        aws_access_key_id=session["AccessKeyId"],
        aws_secret_access_key=session["SecretAccessKey"],
        aws_session_token=session["SessionToken"],
    )


@pytest.fixture(scope="module")
def function(stack: Stack) -> Iterator[Any]:
    """DynamoDB as the function may use it."""
    client = dynamodb_as(stack, physical_names(stack.local)["ApiHandlerRole"])
    yield client
    client.close()


@pytest.fixture(scope="module")
def mistaken(stack: Stack) -> Iterator[Any]:
    """DynamoDB as the function could use it if somebody attached a policy that allows everything."""
    iam, original = stack.aws("iam"), physical_names(stack.local)["ApiHandlerRole"]
    own = iam.get_role_policy(RoleName=original, PolicyName="api")["PolicyDocument"]
    trust = iam.get_role(RoleName=original)["Role"]["AssumeRolePolicyDocument"]
    role = unique("mistaken").replace(" ", "-")
    policies = {"api": own, "mistake": EVERYTHING}
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))
    for name, document in policies.items():
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))
    client = dynamodb_as(stack, role)
    yield client
    client.close()
    for name in policies:
        iam.delete_role_policy(RoleName=role, PolicyName=name)
    iam.delete_role(RoleName=role)


@pytest.fixture(scope="module")
def event(stack: Stack) -> dict[str, Any]:
    """The key of an event that is there."""
    subject = unique("TEST#")
    key = {"pk": {"S": subject}, "sk": {"S": "000000000001"}}
    item = {**key, "day": {"S": "2026-01-02"}, "event_id": {"S": subject}}
    stack.aws("dynamodb").put_item(TableName=stack.events_table, Item=item)
    return key


def update_of(table: str, key: dict[str, Any]) -> dict[str, Any]:
    values = {":mallory": {"S": "mallory"}}
    return {
        "TableName": table,
        "Key": key,
        "UpdateExpression": "SET actor = :mallory",
        "ExpressionAttributeValues": values,
    }


Attempt = Callable[[Any, str, str, dict[str, Any]], Any]
ATTEMPTS: dict[str, Attempt] = {
    "UpdateItem": lambda db, events, _, key: db.update_item(**update_of(events, key)),
    "DeleteItem": lambda db, events, _, key: db.delete_item(TableName=events, Key=key),
    "BatchWriteItem-put": lambda db, events, _, key: db.batch_write_item(
        RequestItems={events: [{"PutRequest": {"Item": key}}]}
    ),
    "BatchWriteItem-delete": lambda db, events, _, key: db.batch_write_item(
        RequestItems={events: [{"DeleteRequest": {"Key": key}}]}
    ),
    "TransactWriteItems-update": lambda db, events, _, key: db.transact_write_items(
        TransactItems=[{"Update": update_of(events, key)}]
    ),
    "TransactWriteItems-delete": lambda db, events, _, key: db.transact_write_items(
        TransactItems=[{"Delete": {"TableName": events, "Key": key}}]
    ),
    "TransactWriteItems-delete-among-what-is-allowed": lambda db, events, table, key: db.transact_write_items(
        TransactItems=[
            {"Put": {"TableName": table, "Item": key}},
            {"Delete": {"TableName": events, "Key": key}},
        ]
    ),
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=list(ATTEMPTS))
def test_an_event_is_never_rewritten_even_if_another_policy_allows_everything(
    stack: Stack, mistaken: Any, event: dict[str, Any], attempt: Attempt
):
    before = stack.aws("dynamodb").get_item(TableName=stack.events_table, Key=event)["Item"]

    with pytest.raises(ClientError, match="explicit deny") as refusal:
        attempt(mistaken, stack.events_table, stack.table, event)

    assert refusal.value.response["Error"]["Code"] == "AccessDeniedException"
    assert stack.aws("dynamodb").get_item(TableName=stack.events_table, Key=event)["Item"] == before
    assert "Item" not in stack.aws("dynamodb").get_item(TableName=stack.table, Key=event)


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=list(ATTEMPTS))
def test_the_function_itself_may_not_rewrite_an_event(
    stack: Stack, function: Any, event: dict[str, Any], attempt: Attempt
):
    with pytest.raises(ClientError, match="AccessDenied"):
        attempt(function, stack.events_table, stack.table, event)


def test_the_mistaken_policy_does_allow_everything_else(stack: Stack, mistaken: Any, event: dict[str, Any]):
    mistaken.scan(TableName=stack.table, Limit=1)
    mistaken.batch_write_item(RequestItems={stack.table: [{"PutRequest": {"Item": event}}]})
    mistaken.batch_write_item(RequestItems={stack.table: [{"DeleteRequest": {"Key": event}}]})


def test_the_function_may_add_events_and_read_them(stack: Stack, function: Any, event: dict[str, Any]):
    added = {**event, "sk": {"S": "000000000002"}, "day": {"S": "2026-01-02"}, "event_id": {"S": "2"}}
    put = {"TableName": stack.events_table, "Item": added, "ConditionExpression": "attribute_not_exists(pk)"}
    there = {"TableName": stack.events_table, "Key": event, "ConditionExpression": "attribute_exists(pk)"}

    function.transact_write_items(TransactItems=[{"Put": put}, {"ConditionCheck": there}])

    found = function.query(
        TableName=stack.events_table,
        KeyConditionExpression="pk = :subject",
        ExpressionAttributeValues={":subject": event["pk"]},
    )
    assert [item["sk"]["S"] for item in found["Items"]] == ["000000000001", "000000000002"]
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        function.put_item(**put)


@pytest.mark.parametrize("table", ["registry", "events"])
def test_the_function_may_not_read_whole_tables(stack: Stack, function: Any, table: str):
    with pytest.raises(ClientError, match="AccessDenied"):
        function.scan(TableName=stack.table if table == "registry" else stack.events_table)


@pytest.mark.parametrize("drop", ["delete_table", "update_time_to_live"])
def test_the_function_may_not_let_events_go_with_their_table(stack: Stack, function: Any, drop: str):
    expiry = {"TimeToLiveSpecification": {"Enabled": True, "AttributeName": "day"}}

    with pytest.raises(ClientError, match="AccessDenied"):
        getattr(function, drop)(TableName=stack.events_table, **({} if drop == "delete_table" else expiry))
