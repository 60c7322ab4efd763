"""The doctor as a function of its own: damage is found and repaired through AWS's Invoke, by its own permissions."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.deploy import physical_names
from tests.e2e.strict_stack import Api, strictly_served, unique
from tests.e2e.test_events_table import dynamodb_as
from tests.stack import Stack

Item = dict[str, Any]


@pytest.fixture(scope="module")
def stack(new_stack: Callable[[], Stack]) -> Stack:
    """Of its own: all that other tests left is too much to look at."""
    own = new_stack()
    own.start()
    return own


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[Api]:
    with strictly_served(stack) as served:
        yield served


def invoked(stack: Stack, event: dict[str, Any]) -> dict[str, Any]:
    answer = stack.aws("lambda").invoke(FunctionName=stack.function("Doctor"), Payload=json.dumps(event))
    content: dict[str, Any] = json.loads(answer["Payload"].read())
    return content | {"error": answer["FunctionError"]} if "FunctionError" in answer else content


def visit(stack: Stack, repair: bool) -> list[dict[str, Any]]:
    """The findings of all steps, which looked at something of everything."""
    findings: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    after = None
    while True:
        step = invoked(stack, {"repair": repair, "after": after})
        assert "error" not in step, step
        findings += step["findings"]
        for what, count in step["counts"].items():
            counts[what] = counts.get(what, 0) + count
        after = step["after"]
        if after is None:
            break
    assert min(counts[what] for what in ("items", "models", "rows", "chains", "events", "subjects")) > 0
    return findings


def told(findings: list[dict[str, Any]], *subjects: str) -> set[tuple[str, str, bool, bool]]:
    """Kind, subject, safe and repaired of what concerns these: other tests may leave something of their own."""
    return {
        (one["kind"], one["subject"], one["safe"], one["repaired"]) for one in findings if one["subject"] in subjects
    }


def items_of(stack: Stack, pk_begins: str, contains: str) -> list[Item]:
    pages = stack.aws("dynamodb").get_paginator("scan").paginate(TableName=stack.table, ConsistentRead=True)
    found = [item for page in pages for item in page["Items"] if item["pk"]["S"].startswith(pk_begins)]
    return [item for item in found if contains in json.dumps(item)]


def key_of(item: Item) -> Item:
    return {"pk": item["pk"], "sk": item["sk"]}


def test_what_is_damaged_is_found_then_repaired_then_whole(api: Api):
    stack, dynamodb = api.stack, api.stack.aws("dynamodb")
    name, project = unique("checked"), unique("line")
    model_id = api.register(name=name, project_name=project)
    [row] = items_of(stack, "CATALOG#", model_id)
    [of_project] = items_of(stack, "PROJECT#", model_id)
    dynamodb.delete_item(TableName=stack.table, Key=key_of(row))
    dynamodb.delete_item(TableName=stack.table, Key=key_of(of_project))
    stray = {"pk": {"S": "NAMES"}, "sk": {"S": f"{unique('bird')}#nobody"}, "target": {"S": "NAME#nobody"}}
    dynamodb.put_item(TableName=stack.table, Item=stray)
    subjects = (f"MODEL#{model_id}", f"NAMES / {stray['sk']['S']}")

    found, repaired, again = visit(stack, False), visit(stack, True), visit(stack, True)

    expected = {
        ("catalogue_row", subjects[0], True),
        ("project_row", subjects[0], True),
        ("stray_names_row", subjects[1], True),
    }
    assert told(found, *subjects) == {(*one, False) for one in expected}
    assert told(repaired, *subjects) == {(*one, True) for one in expected}
    assert told(again, *subjects) == set()
    assert [model["id"] for model in api.found(name=name)] == [model_id]
    assert items_of(stack, "PROJECT#", model_id) == [of_project]
    assert items_of(stack, "NAMES", stray["sk"]["S"]) == []


def test_an_object_that_is_gone_is_told_of_and_nothing_is_done(api: Api):
    stack = api.stack
    model_id = api.register(name=unique("checked"))
    [record] = items_of(stack, f"MODEL#{model_id}", model_id)
    key = json.loads(record["record"]["S"])["artifact"]["key"]
    assert told(visit(stack, True), f"MODEL#{model_id}") == set()
    stack.aws("s3").delete_object(Bucket=stack.bucket, Key=key)

    findings = visit(stack, True)

    assert told(findings, f"MODEL#{model_id}") == {("object_missing", f"MODEL#{model_id}", False, False)}
    assert items_of(stack, f"MODEL#{model_id}", model_id) == [record]
    api.delete(f"/models/{model_id}")
    assert told(visit(stack, True), f"MODEL#{model_id}") == set()


def test_a_position_that_no_step_answered_is_refused(stack: Stack):
    step = invoked(stack, {"repair": False, "after": "nonsense"})

    assert "error" in step
    assert "begin anew" in step["errorMessage"]


def test_its_permissions_do_not_let_it_touch_events(stack: Stack):
    client = dynamodb_as(stack, physical_names(stack.local)["DoctorRole"])
    event = {"pk": {"S": "MODEL#doctor"}, "sk": {"S": "000000000001"}}

    with pytest.raises(ClientError, match="AccessDenied"):
        client.put_item(TableName=stack.events_table, Item=event)
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_item(TableName=stack.events_table, Key=event)
    assert client.scan(TableName=stack.events_table, Limit=1)["Count"] >= 0
    client.close()
