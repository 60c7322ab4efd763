"""The requests whose calls are counted: through the app, as API Gateway hands them over, with AWS in memory.

The catalogue holds CATALOGUE_SIZE models with the metadata of a detector as a training server publishes it.
"""

import base64
import contextlib
import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import boto3
from moto import mock_aws
from urllib3.filepost import encode_multipart_formdata

from tests.bench.aws_calls import Call, Recorder
from tests.bench.exchanges import Exchange, recording
from tests.bench.seeding import seed_models, seeded_id
from tests.bench.units import item_size
from tests.conftest import create_stores, forget_what_was_made, template_resource, zip_of

CATALOGUE_SIZE = 1000
TABLES = ("RegistryTable", "EventsTable")
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "REGISTRY_TABLE": TABLES[0],
    "EVENTS_TABLE": TABLES[1],
    "ARTIFACT_BUCKET": "artifacts",
    "AUDIT_BUCKET": "audit",
    # A token is looked up besides.
    "ACCESS": "open",
}
METADATA = {
    "project_id": "65df3f1c9a1e4b0012c3d4e5",
    "project_name": "Warehouse safety",
    "category": "Detection",
    "architecture": "MobileNetV2-ATSS",
    "precision": "FP16",
    "format": "openvino",
    "target_device_type": "client",
    "score": "0.87",
    "labels": json.dumps(["person", "forklift", "pallet", "helmet", "vest", "spill", "fire", "blocked exit"]),
    "overview": json.dumps({"epochs": 120, "images": 4812, "optimizer": "SGD", "learning_rate": 0.004}),
    "optimization_capabilities": json.dumps({"is_pot_supported": True, "is_nncf_supported": False}),
    "description": "Finds people and vehicles in the aisles of a warehouse.",
    "tags": json.dumps({"team": "vision", "site": "Hamburg", "stage": "production"}),
}
Event = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """A request, what it answers, and how many calls it may make."""

    title: str
    event: Event
    status: int
    budget: int


@dataclass(frozen=True)
class Counted:
    """An operation with the calls it made."""

    operation: Operation
    calls: list[Call]

    @property
    def summary(self) -> dict[str, Any]:
        return {
            "calls": ", ".join(call.name for call in self.calls),
            "read units": sum(call.read_units for call in self.calls),
            "write units": sum(call.write_units for call in self.calls),
        }


@dataclass(frozen=True)
class Counts:
    """What was counted, and a model as it is stored."""

    rows: list[Counted]
    item: Mapping[str, Any]

    @property
    def item_bytes(self) -> int:
        return item_size(self.item)


def api_event(method: str, route: str, target: str, body: bytes = b"", content_type: str = "") -> Event:
    """A request as API Gateway hands it over; `route` is the path with its variables' names, `target` has a query."""
    path, _, query = target.partition("?")
    names = route.split("/")
    variables = {name.strip("{}"): value for name, value in zip(names, path.split("/"), strict=True) if "{" in name}
    return {
        "resource": route,
        "path": path,
        "httpMethod": method,
        "headers": {"Accept": "*/*", "Host": "registry.example", "User-Agent": "bench"}
        | ({"Content-Type": content_type} if content_type else {}),
        "multiValueQueryStringParameters": parse_qs(query) or None,
        "pathParameters": variables or None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": route,
            "httpMethod": method,
            "path": path,
            "requestId": "00000000-0000-4000-8000-000000000000",
            "identity": {"sourceIp": "192.0.2.1", "userAgent": "bench"},
        },
        "body": base64.b64encode(body).decode() if body else None,
        "isBase64Encoded": bool(body),
    }


def _form(method: str, route: str, target: str, fields: Mapping[str, Any]) -> Event:
    body, content_type = encode_multipart_formdata(fields)
    return api_event(method, route, target, body, content_type)


def registration(name: str, version: str, **headers: str) -> Event:
    archive = ("model.zip", zip_of(model__txt="weights"), "application/zip")
    fields = METADATA | {"id": seeded_id(name, version), "name": name, "version": version, "format": ""}
    event = _form("POST", "/models", "/models", fields | {"file": archive})
    return {**event, "headers": event["headers"] | headers}


def _change(model_id: str, **fields: str) -> Event:
    return _form("PUT", "/models/{model_id}", f"/models/{model_id}", fields)


def get_event(name: str = "cat", version: str = "v1") -> Event:
    return api_event("GET", "/models/{model_id}", f"/models/{seeded_id(name, version)}")


def _presign(name: str, version: str) -> Event:
    return api_event("GET", "/models/{model_id}/files", f"/models/{seeded_id(name, version)}/files")


def _list(query: str) -> Event:
    return api_event("GET", "/models", f"/models?{query}")


REPEATED = registration("cat", "v4", **{"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"})
# In this order: each finds what the ones before it left. The budgets are those of the design.
ON_ONE_MODEL = [
    Operation("health", api_event("GET", "/health", "/health"), 200, 0),
    Operation("health, deep", api_event("GET", "/health", "/health?deep=true"), 200, 2),
    Operation("register, first of a registered model", registration("cat", "v1"), 201, 4),
    Operation("register, next version", registration("cat", "v2"), 201, 4),
    Operation("get", get_event(), 200, 1),
    Operation("presign a download", _presign("cat", "v1"), 307, 1),
    Operation("update a field", _change(seeded_id("cat", "v1"), score="0.93"), 200, 2),
    Operation("update the version label", _change(seeded_id("cat", "v1"), version="v3"), 200, 2),
    Operation("move to another registered model", _change(seeded_id("cat", "v1"), name="dog"), 200, 3),
    Operation("move to a new registered model", _change(seeded_id("cat", "v2"), name="owl"), 200, 3),
    Operation("delete", api_event("DELETE", "/models/{model_id}", f"/models/{seeded_id('cat', 'v1')}"), 204, 3),
    Operation("register, with an Idempotency-Key", REPEATED, 201, 4 + 2),
    Operation("the same again", REPEATED, 201, 1),
]
# They count where many models are. moto would copy them all for each transaction, so transactions come before.
ON_THE_CATALOGUE = [
    Operation("list, page of 100", _list("limit=100"), 200, 4 + 1),
    Operation("list, page of 1,000", _list("limit=1000"), 200, 4 + 10),
    Operation("search, 1 found", _list("name=seeded-000500"), 200, 4 + 1),
    Operation("search, 100 found", _list("name=seeded-0005"), 200, 4 + 1),
    Operation("search, none found", _list("name=nothing-like-it"), 404, 4),
]


# Those that are compared with a bare function.
COMPARED = (
    Operation("get", get_event(), 200, 1),
    Operation("list, page of 100", _list("limit=100"), 200, 4 + 1),
    Operation("register, next version", registration("cat", "v2"), 201, 4),
    Operation("presign a download", _presign("cat", "v1"), 307, 1),
)


def count_calls() -> Counts:
    """Every operation once, uncontended, with AWS in memory. Raises ValueError for an unexpected answer."""
    with aws_in_memory():
        return _counts()


def record_compared() -> dict[str, list[Exchange]]:
    """What each of COMPARED asks of AWS, and is answered, by title."""
    with aws_in_memory(), recording() as found:
        for name in ("dog", "cat"):
            answered(Operation("preparation", registration(name, "v1"), 201, 0))
        _seed()
        exchanges = {}
        for operation in COMPARED:
            known = len(found)
            answered(operation)
            exchanges[operation.title] = found[known:]
        # It is computed, and asks nobody.
        place = {"Bucket": ENVIRONMENT["ARTIFACT_BUCKET"], "Key": "artifacts/01000000000000000000000000/model.zip"}
        presigning = {"ClientMethod": "get_object", "Params": place, "ExpiresIn": 3600}
        exchanges["presign a download"].append(Exchange("s3", "generate_presigned_url", presigning, 200, {}, b""))
        return exchanges


@contextlib.contextmanager
def aws_in_memory() -> Iterator[None]:
    os.environ.update(ENVIRONMENT, POWERTOOLS_TRACE_DISABLED="true")
    # What the app logs is of interest only when it fails.
    with mock_aws(), contextlib.redirect_stdout(io.StringIO()) as logged, warnings.catch_warnings():
        # Outside Lambda nobody says how much time remains.
        warnings.filterwarnings("ignore", "Couldn't determine the remaining time left")
        create_stores()
        forget_what_was_made()
        try:
            yield
        except ValueError as exc:
            exc.add_note(logged.getvalue()[-5000:])
            raise


def _counts() -> Counts:
    recorder = Recorder({name: len(template_resource(name).get("GlobalSecondaryIndexes", [])) for name in TABLES})
    with recorder.installed():
        answered(Operation("preparation", registration("dog", "v1"), 201, 0))
        rows = [_counted(recorder, operation) for operation in ON_ONE_MODEL]
        _seed()
        rows += [_counted(recorder, operation) for operation in ON_THE_CATALOGUE]
    return Counts(rows, _stored("dog", "v1"))


def _counted(recorder: Recorder, operation: Operation) -> Counted:
    return Counted(operation, recorder.during(lambda: answered(operation)))


def answered(operation: Operation) -> None:
    from app import app

    answer = app(operation.event, None)
    if answer["statusCode"] != operation.status:
        raise ValueError(f"{operation.title}: {answer['statusCode']} {answer['body']}")


def _seed() -> None:
    from chalicelib.wiring import registry

    seed_models(registry().catalog.version(seeded_id("dog", "v1")), range(CATALOGUE_SIZE))


def _stored(name: str, version: str) -> Mapping[str, Any]:
    """A version as DynamoDB sends it."""
    key = {"pk": {"S": f"MODEL#{seeded_id(name, version)}"}, "sk": {"S": "META"}}
    return boto3.Session().client("dynamodb").get_item(TableName=TABLES[0], Key=key)["Item"]
