"""Calls of MLflow's API without a gateway: Chalice's own test client knows no greedy routes."""

import json
from base64 import b64encode
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from app import app

CONTEXT: Any = type("Context", (), {"get_remaining_time_in_millis": lambda self: 29_000, "aws_request_id": "test"})()


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: dict[str, str]


def call(method: str, path: str, body: Any = None, token: str | None = None, **query: Any) -> Answer:
    """As API Gateway sends it. `path` begins behind the stage: /api/2.0/mlflow/...; a query value may be a list."""
    split = urlsplit(path)
    pairs = [*parse_qsl(split.query, keep_blank_values=True)]
    pairs += [(name, one) for name, value in query.items() for one in (value if isinstance(value, list) else [value])]
    prefix = split.path.split("/")[1]
    headers = {"host": "x", **({"authorization": f"Bearer {token}"} if token else {})}
    sent = None
    if body is not None:
        headers["content-type"] = "application/json"
        sent = (
            b64encode(body).decode() if isinstance(body, bytes) else body if isinstance(body, str) else json.dumps(body)
        )
    event = {
        "resource": f"/{prefix}/{{proxy+}}",
        "path": quote(split.path),
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": {name: str(value) for name, value in pairs} or None,
        "multiValueQueryStringParameters": {n: [str(v) for m, v in pairs if m == n] for n, _ in pairs} or None,
        "pathParameters": {"proxy": split.path.removeprefix(f"/{prefix}/")},
        "stageVariables": None,
        "requestContext": {
            "resourcePath": f"/{prefix}/{{proxy+}}",
            "httpMethod": method,
            "path": split.path,
            "requestId": "test",
            "identity": {"sourceIp": "127.0.0.1"},
        },
        "body": sent,
        # Bytes are what a gateway knows to be binary; what it takes for text comes as a str.
        "isBase64Encoded": isinstance(body, bytes),
    }
    answer = app(event, CONTEXT)
    text = answer["body"]
    is_json = any("json" in str(v) for k, v in answer.get("headers", {}).items() if k.lower() == "content-type")
    merged = {**answer.get("headers", {}), **{k: v[0] for k, v in answer.get("multiValueHeaders", {}).items()}}
    return Answer(answer["statusCode"], json.loads(text) if is_json and text else text, merged)
