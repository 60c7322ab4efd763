"""The lines that the service logs, captured and held to docs/log-lines.schema.json."""

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema_rs

from chalicelib import telemetry
from tests.conftest import ROOT

Line = dict[str, Any]

SCHEMA: dict[str, Any] = json.loads((ROOT / "docs/log-lines.schema.json").read_text())
LINES: dict[str, Any] = SCHEMA["$defs"]["lines"]
FIELDS: dict[str, Any] = SCHEMA["$defs"]["fields"]


def checked(text: str) -> Line:
    """The line that this text is. Fails unless it is one line, of printable ASCII, and one that the schema tells of."""
    assert text.isascii(), text
    assert text.isprintable(), text
    line: Line = json.loads(text)
    kind = _kind(line)
    assert kind in LINES, f"the schema tells of no line {kind}: {text}"
    errors = _validator(kind).iter_errors(line)
    assert [f"{kind}: {error.message}" for error in errors] == []
    return line


def _kind(line: Line) -> str:
    if "_aws" not in line:
        return str(line["message"])
    return "request_metrics" if "Latency" in line else f"{line['operation']}_metrics"


@cache
def _validator(kind: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({"$ref": f"#/$defs/lines/{kind}", "$defs": SCHEMA["$defs"]})


@contextlib.contextmanager
def captured() -> Iterator[list[Line]]:
    """What is logged meanwhile: the list is filled, and every line checked, at the end."""
    lines: list[Line] = []
    [handler] = telemetry.log().handlers
    stream = io.StringIO()
    before = handler.setStream(stream)  # type: ignore[attr-defined]
    # Not to pytest too: its report of a test cannot carry every text that may be logged to another process.
    logger = logging.getLogger(telemetry.log().name)
    propagated, logger.propagate = logger.propagate, False
    try:
        # Metrics are printed.
        with contextlib.redirect_stdout(stream):
            yield lines
    finally:
        logger.propagate = propagated
        handler.setStream(before)  # type: ignore[attr-defined]
    lines += [checked(text) for text in stream.getvalue().splitlines()]
