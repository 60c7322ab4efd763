"""`push`: register a file or folder; `uploads abort`: drop what was begun."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelreg import options
from modelreg.errors import RegistryError
from modelreg.options import given, json_object, pairs
from modelreg.output import Output, as_text
from modelreg.session import resumable, session
from modelreg.transfer_display import transfer_display

if TYPE_CHECKING:
    from modelreg.models import Model
    from modelreg.registry import Registry


# Longer than functions are here: Typer wants a parameter for each option.
def push(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file, sent as it is, or a folder, sent as a ZIP.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the model.")],
    version: Annotated[str, typer.Option("--version", metavar="VERSION", help="Version label, such as v1.")],
    project: options.Project = None,
    project_id: options.ProjectId = None,
    precision: options.Precision = None,
    file_format: options.Format = None,
    device: options.Device = None,
    device_type: options.DeviceType = None,
    category: options.Category = None,
    architecture: options.Architecture = None,
    score: options.Score = None,
    description: options.Description = None,
    label: options.Label = None,
    tag: options.Tag = None,
    overview: options.Overview = None,
    capabilities: options.Capabilities = None,
    origin: options.Origin = None,
    model_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The model's id; else a new one.")] = None,
    created_date: options.CreatedDate = None,
    alias: Annotated[
        str | None, typer.Option("--alias", metavar="ALIAS", help="Point this alias at the new version.")
    ] = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Register a file or folder as a version, and print its id.

    Of a folder with an OpenVINO IR, what the IR tells is filled in: format, precision, labels, category. What is
    given wins. Interrupted, the same command goes on where it stopped.
    """
    fields = given(
        project_name=project, project_id=project_id, precision=precision, format=file_format, target_device=device,
        target_device_type=device_type, category=category, architecture=architecture, score=score,
        description=description, labels=label, tags=pairs(tag), overview=json_object(overview),
        optimization_capabilities=json_object(capabilities), origin=origin, id=model_id, created_date=created_date,
    )  # fmt: skip
    with session(url, as_json, quiet) as (registry, output), resumable():
        fields = {**_read(path, fields, output), **fields}
        model = registry.register(path, name=name, version=version, progress=transfer_display(output), **fields)
        output.say(f"registered {model.name} {model.version} as number {model.number}")
        _finish(registry, model, alias, output)


def _read(path: Path, fields: dict[str, Any], output: Output) -> dict[str, Any]:
    """What the folder tells beyond what was given."""
    if not path.is_dir():
        return {}
    from modelreg.openvino import read_folder

    found = {name: value for name, value in read_folder(path).items() if name not in fields}
    if found:
        shown = "; ".join(f"{name} {as_text(value)}" for name, value in found.items())
        output.say(f"read from the OpenVINO IR: {shown}")
    return found


def _finish(registry: "Registry", model: "Model", alias: str | None, output: Output) -> None:
    """The id, and the alias if one is wanted. An alias that fails leaves the model registered, and says so."""
    if not output.as_json:
        output.line(model.id, {})
    problem = _point(registry, model, alias, output) if alias else None
    if output.as_json:
        output.document((registry.get(model.id) if alias and not problem else model).model_dump(mode="json"))
    if problem:
        raise problem


def _point(registry: "Registry", model: "Model", alias: str, output: Output) -> RegistryError | None:
    from modelreg.targets import registered_name

    try:
        name = registered_name(registry, model)
        registry.set_alias(name, alias, model.number or 0)
    except RegistryError as exc:
        exc.hint = (
            f"The model is registered as {model.id}; only the alias is not set."
            f" Set it with `modelreg alias set NAME {alias} {model.number}`."
        )
        return exc
    output.say(f"{alias} of {name} is now number {model.number}")
    return None


def abort_upload(
    upload_id: Annotated[str, typer.Argument(metavar="UPLOAD_ID", help="As the error that named it says.")],
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Drop an unfinished upload, which frees its name, version and id."""
    with session(url, as_json, quiet) as (registry, output):
        registry.abort_upload(upload_id)
        output.say(f"dropped the upload {upload_id}")
        output.document({"upload_id": upload_id, "state": "ABORTED"})
