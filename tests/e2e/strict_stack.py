"""The stack as clients on AWS would meet it: behind the strict gateway, its S3 behind the strict S3.

The function learns both addresses as it would on AWS, from its environment: `Link` headers name the gateway,
presigned URLs the S3 proxy, and the function's own calls to S3 pass the proxy too.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from app import app
from tests.conftest import ARCHIVE, template_resource
from tests.simulators.strict_gateway import StrictGateway
from tests.simulators.strict_s3 import StrictS3

if TYPE_CHECKING:
    from tests.stack import Stack

TIMEOUT_SECONDS = 60


@dataclass
class Api:
    """The API at `url`, and what stands behind it."""

    stack: "Stack"
    gateway: StrictGateway
    s3: StrictS3

    @property
    def url(self) -> str:
        return self.gateway.url

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """One request. Redirects are not followed unless asked for."""
        arguments = {"timeout": TIMEOUT_SECONDS, "allow_redirects": False, **arguments}
        return requests.request(method, f"{self.url}{path}", **arguments)

    def get(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("GET", path, **arguments)

    def put(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("PUT", path, **arguments)

    def delete(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("DELETE", path, **arguments)

    def post_model(
        self,
        fields: dict[str, Any] | None = None,
        archive: bytes = ARCHIVE,
        file_name: str = "model.zip",
        media_type: str = "application/zip",
    ) -> requests.Response:
        """Register a model as a form; a name and a version of its own unless given."""
        data = {"name": unique("detector"), "version": "v1", **(fields or {})}
        return self.request("POST", "/models", data=data, files={"file": (file_name, archive, media_type)})

    def register(self, archive: bytes = ARCHIVE, file_name: str = "model.zip", **fields: Any) -> str:
        """The id of a new model."""
        answer = self.post_model(fields, archive, file_name)
        assert answer.status_code == 201, answer.text
        return answer.text

    def model(self, model_id: str) -> dict[str, Any]:
        answer = self.get(f"/models/{model_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def found(self, **filters: Any) -> list[dict[str, Any]]:
        """The models that a search finds, none for 404."""
        answer = self.get("/models", params=filters)
        assert answer.status_code in (200, 404), answer.text
        return list(answer.json()) if answer.status_code == 200 else []

    def stored(self) -> tuple[set[str], set[str], set[str]]:
        """Every key in both tables, and every object version in the bucket, markers included."""
        versions = self.stack.aws("s3").get_paginator("list_object_versions").paginate(Bucket=self.stack.bucket)
        objects = {
            f"{entry['Key']} {entry['VersionId']}"
            for page in versions
            for entry in page.get("Versions", []) + page.get("DeleteMarkers", [])
        }
        return self._keys(self.stack.table), self._keys(self.stack.events_table), objects

    def _keys(self, table: str) -> set[str]:
        pages = (
            self.stack.aws("dynamodb").get_paginator("scan").paginate(TableName=table, ProjectionExpression="pk, sk")
        )
        return {f"{item['pk']['S']} {item['sk']['S']}" for page in pages for item in page["Items"]}


def unique(name: str) -> str:
    """A name that no other test uses."""
    return f"{name} {uuid.uuid4().hex[:12]}"


@contextmanager
def strictly_served(stack: "Stack") -> Iterator[Api]:
    """The running stack behind the two proxies, until the context ends."""
    gateway, s3 = proxies_of(stack)
    before = stack.aws("lambda").get_function_configuration(FunctionName=_handler(stack))["Environment"]
    with gateway.serving(), s3.serving():
        lead_through(stack, gateway, s3)
        try:
            yield Api(stack, gateway, s3)
        finally:
            stack.aws("lambda").update_function_configuration(FunctionName=_handler(stack), Environment=before)


def proxies_of(stack: "Stack") -> tuple[StrictGateway, StrictS3]:
    """The two proxies for a stack, not serving yet."""
    gateway = StrictGateway(stack.url, app.api.binary_types, template_resource("RestAPI")["GatewayResponses"])
    return gateway, StrictS3(stack.s3_endpoint)


def lead_through(stack: "Stack", gateway: StrictGateway, s3: StrictS3, *others: str) -> None:
    """Tell the API's function where the serving proxies are, and the other ones named where S3 is."""
    to_s3 = {"AWS_ENDPOINT_URL_S3": s3.address}
    _add_variables(stack, _handler(stack), {"PUBLIC_URL": gateway.url, "S3_PUBLIC_ENDPOINT": s3.address, **to_s3})
    for name in others:
        _add_variables(stack, stack.function(name), to_s3)


def _handler(stack: "Stack") -> str:
    return stack.function("APIHandler")


def _add_variables(stack: "Stack", function: str, variables: dict[str, str]) -> None:
    functions = stack.aws("lambda")
    before = functions.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    functions.update_function_configuration(FunctionName=function, Environment={"Variables": before | variables})
