"""`ls`, `show`, `search` and `manifest`: what there is. They change nothing."""

from typing import Annotated

import typer

from modelreg import options
from modelreg.exits import Misused
from modelreg.options import given, pairs
from modelreg.output import Column, as_text, size_text
from modelreg.session import session
from modelreg.targets import find

MODEL_COLUMNS = (
    Column("ID", lambda model: model.id),
    Column("NAME", lambda model: model.name),
    Column("VERSION", lambda model: model.version),
    Column("NUMBER", lambda model: model.number),
    Column("PRECISION", lambda model: model.precision),
    Column("FORMAT", lambda model: model.format, may_go=True),
    Column("SIZE", lambda model: model.size, lambda model: size_text(model.size)),
    Column("ALIASES", lambda model: model.aliases, may_go=True),
    Column("CREATED", lambda model: model.created_date, lambda model: (model.created_date or "")[:10], may_go=True),
)
NAME_COLUMNS = (
    Column("NAME", lambda registered: registered.name),
    Column("ALIASES", lambda registered: [f"{alias}={number}" for alias, number in registered.aliases.items()]),
    Column("DESCRIPTION", lambda registered: registered.description),
)
FILE_COLUMNS = (
    Column("PATH", lambda file: file.path),
    Column("SIZE", lambda file: file.size, lambda file: size_text(file.size)),
    Column("CRC32", lambda file: file.crc32),
)


def list_models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only the versions of this registered model.")
    ] = None,
    names: Annotated[bool, typer.Option("--names", help="List registered models instead of their versions.")] = False,
    limit: options.Limit = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List all models, or the versions of one.

    All: newest first. Versions: highest number first.
    """
    if names and name:
        raise Misused("Both a NAME and --names are given.", "Leave one of them out.")
    with session(url, as_json, quiet) as (registry, output):
        if names:
            output.rows(NAME_COLUMNS, registry.registered_models(limit=limit))
        elif name:
            from itertools import islice

            output.rows(MODEL_COLUMNS, islice(registry.versions(name), limit))
        else:
            output.rows(MODEL_COLUMNS, registry.list(limit=limit))


def search(
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="The name holds this.")] = None,
    version: Annotated[str | None, typer.Option("--version", metavar="VERSION", help="The version is this.")] = None,
    project: Annotated[
        str | None, typer.Option("--project", metavar="TEXT", help="The project's name holds this.")
    ] = None,
    category: Annotated[str | None, typer.Option("--category", metavar="TEXT", help="The category holds this.")] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", metavar="TEXT", help="The architecture holds this.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="TEXT", help="One of the precisions holds this.")
    ] = None,
    origin: Annotated[str | None, typer.Option("--origin", metavar="TEXT", help="The origin is this.")] = None,
    file_format: Annotated[str | None, typer.Option("--format", metavar="TEXT", help="The format is this.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="It has this tag; may be repeated.")
    ] = None,
    limit: options.Limit = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List the models that pass every filter.

    Upper and lower case are the same, but for the version and tags.
    """
    filters = given(
        name=name, version=version, project_name=project, category=category, architecture=architecture,
        precision=precision, origin=origin, format=file_format,
    )  # fmt: skip
    tags = pairs(tag)
    with session(url, as_json, quiet) as (registry, output):
        if not output.rows(MODEL_COLUMNS, registry.search(limit=limit, tags=tags, **filters)):
            output.say("nothing found")


def show(
    target: options.Target,
    is_id: options.IsId = False,
    precision: options.OfPrecision = None,
    whole: Annotated[
        bool, typer.Option("--model", help="TARGET is a registered model's name: show it, not a version of it.")
    ] = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Show all that is known of a model."""
    if whole and is_id:
        raise Misused("Both --model and --id are given.", "Leave one of them out.")
    with session(url, as_json, quiet) as (registry, output):
        if whole:
            output.fields(registry.registered_model(target).model_dump(mode="json", exclude={"versions", "latest"}))
        else:
            model = find(registry, target, is_id=is_id, precision=precision)
            output.fields(model.model_dump(mode="json"))


def manifest(
    target: options.Target,
    is_id: options.IsId = False,
    precision: options.OfPrecision = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List the files in a version's artifact: path, size, CRC-32."""
    with session(url, as_json, quiet) as (registry, output):
        found = registry.manifest(find(registry, target, is_id=is_id, precision=precision).id)
        if as_json:
            output.document(found.model_dump(mode="json"))
            return
        files = "1 file" if found.file_count == 1 else f"{found.file_count} files"
        facts = (found.file_name, size_text(found.size), files, found.format, as_text(found.precision))
        output.say(", ".join(fact for fact in facts if fact))
        output.rows(FILE_COLUMNS, found.files)
