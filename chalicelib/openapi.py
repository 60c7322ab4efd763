"""The OpenAPI 3.1 document of the service, made of what its surfaces say of themselves.

Pure, and slow enough that it is made once per container: surfaces and a base URL in, the document out. There is no
list of routes here; what only the gateway in front of the service answers is added to every operation.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from chalicelib import __version__
from chalicelib.forms import FORM_TYPES
from chalicelib.surface import JSON, MAX_PREFIXED_PARAMETERS, Answer, Detail, Operation, Surface

Json = dict[str, Any]
Key = tuple[str, int, str]

SCHEMAS = "#/components/schemas/"
PROBLEM = "application/problem+json"
BODY = 0  # stands for the request where statuses stand for the answers
ABOUT = """
A registry of trained models: their metadata, their archives, and who changed what.

Set `REGISTRY` to the base URL, `ID` to the id of a model, `UPLOAD` to that of an upload and `TOKEN_ID` to that of a
token, and the examples work as they are. Where tokens are asked for, have one in the URL (`https://user:mr_...@host`),
or send it as `Authorization: Bearer mr_...`; `x-role` is the least role that an operation needs. What a token may not
see is answered as if it did not exist.

A path that is not listed is answered with 404, a
method that a path does not have with 405 and the methods it has in `Allow`. Every answer of the service carries
`X-Request-Id`; name it when you ask for help.
""".strip()

HEADERS = {
    "Allow": "The methods this path has.",
    "Cache-Control": "How long this may be kept.",
    "ETag": "What is answered here, as one word: it differs when the content does. For a model, its revision.",
    "Link": 'Where the next page is, as `<...>; rel="next"`; missing on the last page.',
    "Location": "Where to go on.",
    "Retry-After": "Seconds after which it makes sense to try again.",
    "WWW-Authenticate": "How a token can be sent; behind a gateway it may come under another name.",
    "X-Request-Id": "Identifies this request in the log.",
}


class GatewayError(BaseModel):
    """An error that the gateway in front of the service answered, in words and as a code."""

    detail: str
    code: str


# A browser may ask from anywhere; these may answer any request, whatever it asks for.
EVERYWHERE = {
    403: (
        "Forbidden",
        Answer(
            "The token lacks a role or is limited to others; or the network of the caller is not admitted",
            {JSON: GatewayError | Detail, PROBLEM: Detail},
        ),
    ),
    429: ("TooManyRequests", Answer("Too many requests at once", {JSON: GatewayError}, ("Retry-After",))),
    500: ("InternalError", Answer("A bug; the log says more under the request id", {JSON: Detail, PROBLEM: Detail})),
    502: ("BadGateway", Answer("No answer from the service; look before you repeat a change", {JSON: GatewayError})),
    504: ("Timeout", Answer("No answer within 29 seconds; look before you repeat a change", {JSON: GatewayError})),
}
WITH_A_TOKEN = {
    401: (
        "Unauthorized",
        Answer("No token, or one that does not work", {JSON: Detail, PROBLEM: Detail}, ("WWW-Authenticate",)),
    ),
}
ELSEWHERE = {
    404: ("UnknownRoute", Answer("There is nothing at this path", {JSON: Detail, PROBLEM: Detail})),
    405: (
        "MethodNotAllowed",
        Answer("The path does not have this method", {JSON: Detail, PROBLEM: Detail}, ("Allow",)),
    ),
}


def document_of(surfaces: Sequence[Surface], base_url: str | None) -> Json:
    """The document. Without a base URL the server is wherever the document was read."""
    operations = [(surface, operation) for surface in surfaces for operation in surface.operations]
    schemas, components = _schemas([operation for _, operation in operations])
    examples = json.loads(Path(__file__).with_name("examples.json").read_text())
    paths: dict[str, Json] = {}
    for surface, operation in operations:
        told = {"tags": [surface.name], **_operation(operation, schemas, examples.get(operation.view))}
        paths.setdefault(operation.path, {})[operation.method.lower()] = told
    return {
        "openapi": "3.1.0",
        "info": {"title": "Model Registry", "version": __version__, "description": ABOUT},
        "servers": [{"url": base_url or "."}],
        "tags": [{"name": surface.name, "description": surface.about} for surface in surfaces],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()},
            "responses": {
                name: _answer(name, status, answer, schemas)
                for status, (name, answer) in {**EVERYWHERE, **WITH_A_TOKEN, **ELSEWHERE}.items()
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token, as `POST /tokens` answers it."},
                "basic": {"type": "http", "scheme": "basic", "description": "Any user name, a token as password."},
            },
        },
    }


def _operation(operation: Operation, schemas: Mapping[Key, Json], example: Any) -> Json:
    told: Json = {
        "operationId": operation.view,
        "summary": operation.summary,
        "description": operation.description,
        "parameters": _parameters(operation),
        "requestBody": _body(operation, schemas),
        "responses": {},
        "x-codeSamples": [{"lang": "Shell", "label": "curl", "source": operation.curl}],
    }
    for status, answer in operation.responses.items():
        told["responses"][str(status)] = _answer(operation.view, status, answer, schemas)
        if example is not None and status < 300:
            next(iter(told["responses"][str(status)]["content"].values()))["example"] = example
    if operation.role is not None:
        told["x-role"] = operation.role.value
        told["security"] = [{"bearer": []}, {"basic": []}]
    for status, (name, _) in (EVERYWHERE if operation.role is None else {**EVERYWHERE, **WITH_A_TOKEN}).items():
        told["responses"].setdefault(str(status), {"$ref": f"#/components/responses/{name}"})
    told["responses"] = dict(sorted(told["responses"].items()))
    return {name: value for name, value in told.items() if value}


def _answer(key: str, status: int, answer: Answer, schemas: Mapping[Key, Json]) -> Json:
    headers = [*answer.headers, "X-Request-Id"] if status not in (403, 429, 502, 504) else answer.headers
    told: Json = {
        "description": answer.meaning,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {media_type: {"schema": schemas[key, status, media_type]} for media_type in answer.content},
    }
    return {name: value for name, value in told.items() if value}


def _body(operation: Operation, schemas: Mapping[Key, Json]) -> Json | None:
    if not operation.body:
        return None
    content: dict[str, Json] = {}
    for media_type, model in operation.body.items():
        content[media_type] = {"schema": schemas[operation.view, BODY, media_type]}
        encoding = {
            name: {"contentType": ", ".join(field.json_schema_extra["x-content-types"])}
            for name, field in model.model_fields.items()
            if isinstance(field.json_schema_extra, dict) and "x-content-types" in field.json_schema_extra
        }
        if encoding:
            content[media_type]["encoding"] = encoding
    return {"required": True, "content": content}


def _parameters(operation: Operation) -> list[Json]:
    parameters = [
        {"name": name, "in": "path", "required": True, **_described(TypeAdapter(kind).json_schema())}
        for name, kind in operation.path_parameters.items()
    ]
    for place, model in (("query", operation.query), ("header", operation.headers)):
        told = model.model_json_schema() if model else {"properties": {}}
        for name, schema in told["properties"].items():
            whole = _inlined(schema, told.get("$defs", {}))
            needed = {"required": True} if name in told.get("required", ()) else {}
            parameters.append({"name": name, "in": place, **needed, **_described(_not_empty(whole))})
    if operation.query_prefix:
        parameters.append(_any_with(operation.query_prefix))
    return parameters


def _inlined(schema: Any, definitions: Mapping[str, Json]) -> Any:
    """The schema with what it refers to in its place: a parameter has no components of its own."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        named = definitions[schema["$ref"].rpartition("/")[2]]
        return _inlined({**named, **{name: value for name, value in schema.items() if name != "$ref"}}, definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items()}


def _not_empty(schema: Json) -> Json:
    """A parameter is left out or has a value: neither null nor empty."""
    schema = _without_null(schema)
    if schema.get("type") == "string" and "pattern" not in schema:
        schema.setdefault("minLength", 1)
    return schema


def _described(schema: Json) -> Json:
    """The members of a parameter: its description beside its schema, not within."""
    told = {"schema": _tidy(schema)}
    description = told["schema"].pop("description", None)
    return {"description": description, **told} if description else told


def _any_with(prefix: str) -> Json:
    """The query parameters that share a prefix: an exploded object, whose keys are their names."""
    pattern = rf"^{prefix.replace('.', '[.]')}[^\u0000-\u001f\u007f-\u009f]+$"
    return {
        "name": f"{prefix}*",
        "in": "query",
        "description": f"`{prefix}<key>=<value>`, at most {MAX_PREFIXED_PARAMETERS} of them: equal.",
        "style": "form",
        "explode": True,
        "schema": {
            "type": "object",
            "patternProperties": {pattern: {"type": "string", "minLength": 1}},
            "additionalProperties": False,
            "maxProperties": MAX_PREFIXED_PARAMETERS,
        },
    }


def _schemas(operations: Iterable[Operation]) -> tuple[Mapping[Key, Json], dict[str, Json]]:
    """The schema of every body by who has it, and the components they refer to; forms as they are sent, as text."""
    inputs = list(_bodies(operations))
    adapters = [(key, "validation" if key[1] == BODY else "serialization", TypeAdapter(kind)) for key, kind in inputs]
    found, definitions = TypeAdapter.json_schemas(adapters, ref_template=SCHEMAS + "{model}")  # type: ignore[arg-type]
    schemas = {key: _tidy(schema) for (key, _), schema in found.items()}
    components = {name: _tidy(schema) for name, schema in definitions["$defs"].items() if name != "JsonValue"}
    forms = {schemas[key]["$ref"].removeprefix(SCHEMAS) for key, _ in inputs if key[1] == BODY and key[2] in FORM_TYPES}
    # What a form holds is nullable in the domain's words where it may be empty, so the untidied schema decides.
    return schemas, {
        name: _form(definitions["$defs"][name]) if name in forms else schema for name, schema in components.items()
    }


def _bodies(operations: Iterable[Operation]) -> Iterator[tuple[Key, Any]]:
    for operation in operations:
        for media_type, kind in operation.body.items():
            yield (operation.view, BODY, media_type), kind
        for status, answer in operation.responses.items():
            yield from (((operation.view, status, media_type), kind) for media_type, kind in answer.content.items())
    for status, (name, answer) in {**EVERYWHERE, **WITH_A_TOKEN, **ELSEWHERE}.items():
        yield from (((name, status, media_type), kind) for media_type, kind in answer.content.items())


def _form(schema: Json) -> Json:
    """A model as a form: every field is text."""
    fields = {name: _tidy(_as_text(field)) for name, field in schema["properties"].items()}
    return {**_tidy({name: value for name, value in schema.items() if name != "properties"}), "properties": fields}


def _as_text(field: Json) -> Json:
    """A field as a form carries it: JSON for what is no plain value, and possibly empty where null is possible."""
    may_be_empty = any(option == {"type": "null"} for option in field.get("anyOf", ()))
    field = _without_null(field)
    notes = {name: field.pop(name) for name in ("description", "default") if field.get(name) is not None}
    field.pop("default", None)
    content_types = field.pop("x-content-types", None)
    if content_types:
        return {"type": "string", "format": "binary", **notes}
    if field["type"] == "object" or (field["type"] == "array" and field["items"].get("type") != "string"):
        if "default" in notes:
            notes["default"] = json.dumps(notes["default"])
        notes["description"] = f"{notes.get('description', '')} Sent as JSON text.".strip()
        return {"type": "string", "contentMediaType": JSON, "contentSchema": field, **notes}
    takes_empty_text = field["type"] == "string" and re.search(field.get("pattern", ""), "")
    if may_be_empty and not takes_empty_text:
        return {"anyOf": [field, {"type": "string", "maxLength": 0}], **notes}
    return {**field, **notes}


def _without_null(schema: Json) -> Json:
    """The schema for values that are not null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default") or value is not None}
    if len(options) != 1:
        return rest
    return {**{name: value for name, value in rest.items() if name != "anyOf"}, **options[0]}


def _tidy(schema: Any) -> Any:
    """The schema without pydantic's titles, and with a nullable type told as one list."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {
        name: _tidy(value)
        for name, value in schema.items()
        if not (name == "title" and isinstance(value, str))
        and not (name == "additionalProperties" and value == {"$ref": f"{SCHEMAS}JsonValue"})
    }
    options = tidied.get("anyOf", [])
    is_nullable = len(options) == 2 and options[1] == {"type": "null"}
    # An enumeration would have to name null too.
    if is_nullable and isinstance(options[0].get("type"), str) and "enum" not in options[0]:
        del tidied["anyOf"]
        tidied.update(options[0], type=[options[0]["type"], "null"])
    return tidied
