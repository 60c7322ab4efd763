"""The options that several commands share, each worded once, and what they become for the library."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from modelreg.errors import InvalidInput, LocalError

MAX_JSON_FILE_BYTES = 1024**2  # the registry takes no more than 64 KiB of metadata

Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Where the registry is; else MODELREG_URL, else the config file."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output, and errors as JSON on standard error.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on standard error but errors.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many; else all.")]
Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="NAME (its latest version), NAME:VERSION, NAME@ALIAS, or an id.")
]
IsId = Annotated[bool, typer.Option("--id", help="TARGET is a model id, not a name.")]
OfPrecision = Annotated[
    str | None,
    typer.Option("--precision", metavar="PRECISION", help="Which one, if the version is there in several precisions."),
]

Project = Annotated[str | None, typer.Option("--project", metavar="NAME", help="Name of the project.")]
ProjectId = Annotated[str | None, typer.Option("--project-id", metavar="ID", help="Id of the project.")]
Precision = Annotated[
    list[str] | None,
    typer.Option("--precision", metavar="PRECISION", help="fp32, fp16, bf16, int8 or int4; may be repeated."),
]
Format = Annotated[str | None, typer.Option("--format", metavar="FORMAT", help="Format, such as OpenVINO or ONNX.")]
Device = Annotated[str | None, typer.Option("--device", metavar="DEVICE", help="Device it is made for, such as CPU.")]
DeviceType = Annotated[
    str | None, typer.Option("--device-type", metavar="TYPE", help="Kind of that device, such as client or edge.")
]
Category = Annotated[str | None, typer.Option("--category", metavar="TASK", help="Task, such as detection.")]
Architecture = Annotated[
    str | None, typer.Option("--architecture", metavar="NAME", help="Network architecture, such as YOLOX.")
]
Score = Annotated[float | None, typer.Option("--score", metavar="NUMBER", help="How good it is.")]
Description = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="Anything for people.")]
Label = Annotated[
    list[str] | None, typer.Option("--label", metavar="LABEL", help="A class it tells apart; may be repeated.")
]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A tag; may be repeated.")]
Overview = Annotated[
    Path | None, typer.Option("--overview", metavar="FILE", help="JSON file with an object: the overview.")
]
Capabilities = Annotated[
    Path | None,
    typer.Option("--capabilities", metavar="FILE", help="JSON file with an object: the optimization capabilities."),
]
Origin = Annotated[str | None, typer.Option("--origin", metavar="TEXT", help="Where it comes from.")]
CreatedDate = Annotated[
    str | None, typer.Option("--created-date", metavar="DATE", help="When it was made; else the time of the push.")
]

Stack = Annotated[str | None, typer.Option("--stack", metavar="STACK", help="CloudFormation stack of the registry.")]
FunctionName = Annotated[
    str | None, typer.Option("--function", metavar="NAME", help="Name or ARN of the function, instead of --stack.")
]
EndpointUrl = Annotated[
    str | None,
    typer.Option("--endpoint-url", metavar="URL", help="Where AWS is, if not AWS itself: that of an emulator."),
]
Region = Annotated[
    str | None, typer.Option("--region", metavar="REGION", help="AWS region; else as AWS is set up here.")
]


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were given: without None and empty lists."""
    return {name: value for name, value in fields.items() if value is not None and value not in ([], {}, ())}


def pairs(tags: list[str] | None) -> dict[str, str]:
    """Tags from KEY=VALUE; the value may hold `=` and may be empty. Raises a usage error."""
    found = {}
    for tag in tags or []:
        key, equals, value = tag.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{tag!r} is not KEY=VALUE.", param_hint="--tag")
        found[key] = value
    return found


def json_object(path: Path | None) -> dict[str, Any] | None:
    """The object in a JSON file; None for no file. Raises LocalError or InvalidInput."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(MAX_JSON_FILE_BYTES + 1)
    except OSError as exc:
        raise LocalError(f"{path} cannot be read: {exc.strerror}.", hint="Check the path and its permissions.") from exc
    try:
        found = json.loads(text) if len(text) <= MAX_JSON_FILE_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(f"{path} does not hold a JSON object of at most {MAX_JSON_FILE_BYTES:,} bytes.")
    return found
