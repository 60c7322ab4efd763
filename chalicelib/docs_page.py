"""The OpenAPI document as one page: HTML and a style, nothing to fetch and nothing that runs.

Whatever is put into the page is escaped unless `element` made it. What the document does not hold is not told.
"""

import html
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

Json = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
VOID = ("meta", "br")


class Markup(str):
    """HTML that `element` made."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: str) -> Markup:
    """One element. Text in it is escaped; a trailing underscore of an attribute's name is dropped."""
    stated = "".join(f' {name.rstrip("_")}="{html.escape(value)}"' for name, value in attributes.items())
    if tag in VOID:
        return Markup(f"<{tag}{stated}>")
    inner = "".join(part if isinstance(part, Markup) else html.escape(part) for part in content)
    return Markup(f"<{tag}{stated}>{inner}</{tag}>")


def page_of(document: Json) -> str:
    """The page."""
    return "<!doctype html>\n" + element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", document["info"]["title"]),
            element("style", Markup(Path(__file__).with_suffix(".css").read_text())),
        ),
        element("body", _header(document), _contents(document), element("main", *_sections(document))),
        lang="en",
    )


def _header(document: Json) -> Markup:
    info, server = document["info"], document["servers"][0]["url"]
    base = server if server.startswith("http") else "the URL of this page without /docs"
    return element(
        "header",
        element("h1", info["title"], " ", element("small", info["version"])),
        *_prose(info["description"]),
        element("pre", element("code", f"REGISTRY={base}" if base == server else f"REGISTRY=...  # {base}")),
        element("p", "For programs: ", element("a", "openapi.json", href="openapi.json"), " (OpenAPI 3.1)."),
    )


def _contents(document: Json) -> Markup:
    groups = [
        element(
            "li",
            element("a", tag["name"], href=f"#{tag['name']}"),
            element("ul", *(_entry(path, method, operation) for path, method, operation in _of(document, tag))),
        )
        for tag in document["tags"]
    ]
    others = [element("li", element("a", title, href=f"#{title.lower()}")) for title in ("Answers", "Schemas")]
    return element("nav", element("h2", "Contents"), element("ul", *groups, *others))


def _entry(path: str, method: str, operation: Json) -> Markup:
    link = element("a", _method(method), " ", element("code", path), href=f"#{operation['operationId']}")
    return element("li", link, " ", element("span", operation["summary"]))


def _of(document: Json, tag: Json) -> Iterator[tuple[str, str, Json]]:
    """The operations of a tag: path, method, operation."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods and tag["name"] in methods[method]["tags"]:
                yield path, method, methods[method]


def _sections(document: Json) -> Iterator[Markup]:
    components = document["components"]
    for tag in document["tags"]:
        yield element("h2", tag["name"], id=tag["name"])
        yield from _prose(tag["description"])
        for path, method, operation in _of(document, tag):
            yield _operation(path, method, operation, components)
    yield element("h2", "Answers that any request may get", id="answers")
    yield element("dl", *chain(*(_answer(name, answer) for name, answer in components["responses"].items())))
    yield element("h2", "Schemas", id="schemas")
    for name, schema in components["schemas"].items():
        yield element("section", element("h3", name), *_schema(schema), id=f"schema-{name}")


def _operation(path: str, method: str, operation: Json, components: Json) -> Markup:
    name = operation["operationId"]
    heading = element("a", _method(method), " ", element("code", path), href=f"#{name}")
    return element(
        "section",
        element("h3", heading),
        element("p", element("strong", operation["summary"])),
        *_prose(operation.get("description", "")),
        *_prose(f"Needs the role {operation['x-role']}." if "x-role" in operation else "Open to everyone."),
        *(element("pre", element("code", sample["source"])) for sample in operation["x-codeSamples"]),
        *_examples(operation),
        *_titled("Parameters", *map(_parameter, operation.get("parameters", ()))),
        *_titled("Body", *_bodies(operation, components["schemas"])),
        *_titled(
            "Answers",
            *(_answer(status, answer) for status, answer in operation["responses"].items() if "$ref" not in answer),
        ),
        element("p", element("a", "and what any request may get", href="#answers")),
        id=name,
    )


def _examples(operation: Json) -> Iterator[Markup]:
    """What the curl example was answered with."""
    for answer in operation["responses"].values():
        for content in answer.get("content", {}).values():
            if "example" in content:
                example = content["example"]
                text = example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)
                yield element("details", element("summary", "Answer"), element("pre", element("code", text)))


def _titled(title: str, *entries: tuple[Markup, Markup]) -> Iterator[Markup]:
    if entries:
        yield element("h4", title)
        yield element("dl", *chain(*entries))


def _parameter(parameter: Json) -> tuple[Markup, Markup]:
    place = parameter["in"] + (", required" if parameter.get("required") else "")
    name = element("dt", element("code", parameter["name"]), " ", element("small", place))
    schema = {"type": "string"} if parameter.get("explode") else parameter["schema"]
    return name, _meaning(schema, parameter.get("description", ""))


def _bodies(operation: Json, schemas: Json) -> Iterator[tuple[Markup, Markup]]:
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        notes = [
            element("p", element("code", name), " is of type ", element("code", encoding["contentType"]))
            for name, encoding in content.get("encoding", {}).items()
        ]
        schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
        fields = element("details", element("summary", "Fields"), *_schema(schema))
        yield element("dt", element("code", media_type)), element("dd", *_type(content["schema"]), *notes, fields)


def _answer(status: str, answer: Json) -> tuple[Markup, Markup]:
    bodies = [
        element("span", element("code", media_type), " ", *_type(content["schema"]), class_="body")
        for media_type, content in answer.get("content", {}).items()
    ]
    # Every answer carries the request id; the page says so once.
    headers = ", ".join(name for name in answer.get("headers", ()) if name != "X-Request-Id")
    text = element("span", answer["description"], class_="body")
    return element("dt", element("b", status)), element(
        "dd", text, *bodies, element("small", f"with {headers}" if headers else "")
    )


def _schema(schema: Json) -> Iterator[Markup]:
    yield from _prose(schema.get("description", ""))
    fields = []
    for name, field in schema.get("properties", {}).items():
        required = " required" if name in schema.get("required", ()) else ""
        term = element("dt", element("code", name), element("small", required))
        fields.append((term, _meaning(field, field.get("description", ""))))
    yield element("dl", *chain(*fields)) if fields else element("p", *_type(schema))


def _meaning(schema: Json, description: str) -> Markup:
    """What a value is and what it means."""
    limits = ", ".join(_limits(schema))
    kind = element("span", *_type(schema), f" ({limits})" if limits else "", class_="type")
    return element("dd", kind, " ", *_inline(description))


def _type(schema: Json) -> Iterator[str]:
    """The kind of a value in a word or two, with links to what has a name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield element("a", name, href=f"#schema-{name}")
    elif "contentSchema" in schema:
        yield "JSON text of "
        yield from _type(schema["contentSchema"])
    elif "anyOf" in schema:
        for number, option in enumerate(schema["anyOf"]):
            yield " or " if number else ""
            yield from ("empty",) if option.get("maxLength") == 0 else _type(option)
    elif "array" in _types(schema):
        yield "list of "
        yield from _type(schema.get("items", {}))
        yield " or null" if "null" in _types(schema) else ""
    elif schema.get("format") == "binary":
        yield "file"
    else:
        yield " or ".join(_types(schema)) or "anything"


def _types(schema: Json) -> list[str]:
    stated = schema.get("type", [])
    return [stated] if isinstance(stated, str) else stated


def _limits(schema: Json) -> Iterator[str]:
    """The limits of a value and what it is when left out."""
    said = {"minimum": "from {}", "maximum": "to {}", "maxLength": "at most {} characters", "const": "{}"}
    for name, text in said.items():
        if name in schema:
            yield text.format(schema[name])
    if "enum" in schema:
        yield "one of " + ", ".join(map(str, schema["enum"]))
    if schema.get("default") is not None:
        default = schema["default"]
        yield f"default {default if isinstance(default, str) else json.dumps(default)}"


def _prose(text: str) -> Iterator[Markup]:
    """Paragraphs, separated by empty lines."""
    for paragraph in filter(None, text.split("\n\n")):
        yield element("p", *_inline(paragraph))


def _inline(text: str) -> Iterator[str]:
    """Text in which backticks enclose code."""
    for number, part in enumerate(re.split("`", text)):
        yield element("code", part) if number % 2 else part


def _method(method: str) -> Markup:
    return element("span", method.upper(), class_=f"method {method}")
