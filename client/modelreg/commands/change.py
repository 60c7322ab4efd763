"""`edit`, `rm` and `alias`: change what is registered.

Models are changed by id only: a name could be made to look like somebody else's id.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelreg import options
from modelreg.errors import NotFound
from modelreg.exits import Misused
from modelreg.options import given, json_object, pairs
from modelreg.session import session

if TYPE_CHECKING:
    from modelreg.registry import Registry

# What an option is called where its field is called otherwise.
FIELD_OF_OPTION = {
    "project": "project_name",
    "device": "target_device",
    "device_type": "target_device_type",
    "label": "labels",
    "tag": "tags",
    "capabilities": "optimization_capabilities",
}

Revision = Annotated[
    int | None,
    typer.Option("--if-revision", metavar="N", help="Only if it is still at this revision, as `show` tells it."),
]
Clear = Annotated[list[str] | None, typer.Option("--clear", metavar="FIELD", help="A field to empty; may be repeated.")]
Untag = Annotated[list[str] | None, typer.Option("--untag", metavar="KEY", help="A tag to remove; may be repeated.")]


# Longer than functions are here: Typer wants a parameter for each option.
def edit(
    model_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the model.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="A new name.")] = None,
    version: Annotated[str | None, typer.Option("--version", metavar="VERSION", help="A new version label.")] = None,
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
    untag: Untag = None,
    overview: options.Overview = None,
    capabilities: options.Capabilities = None,
    origin: options.Origin = None,
    created_date: options.CreatedDate = None,
    clear: Clear = None,
    if_revision: Revision = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Change the metadata of a model.

    What is not named stays as it is. Labels and precisions are replaced as a whole; tags are added to those that are
    there.
    """
    fields = given(
        name=name, version=version, project_name=project, project_id=project_id, precision=precision,
        format=file_format, target_device=device, target_device_type=device_type, category=category,
        architecture=architecture, score=score, description=description, labels=label, overview=json_object(overview),
        optimization_capabilities=json_object(capabilities), origin=origin, created_date=created_date,
    )  # fmt: skip
    fields |= _cleared(clear, {*fields, *(["tags"] if tag or untag else [])})
    tags = pairs(tag)
    if not fields and not tags and not untag:
        raise Misused("Nothing is said to change.", "Say what, such as --score 0.9; `modelreg edit --help` has all.")
    with session(url, as_json, quiet) as (registry, output):
        if tags or untag:
            fields["tags"], if_revision = _merged_tags(registry, model_id, tags, untag, if_revision)
        model = registry.update(model_id, if_revision=if_revision, **fields)
        output.say(f"{model.name} {model.version} is now at revision {model.revision}")
        output.line(model.id, model.model_dump(mode="json"))


def _cleared(names: list[str] | None, given_too: set[str]) -> dict[str, None]:
    cleared: dict[str, None] = {}
    for name in names or []:
        option = name.removeprefix("--").replace("-", "_")
        field = FIELD_OF_OPTION.get(option, option)
        if field in given_too:
            raise typer.BadParameter(f"{name} is given a value too.", param_hint="--clear")
        cleared[field] = None
    return cleared


def _merged_tags(
    registry: "Registry", model_id: str, tags: Mapping[str, str], untag: list[str] | None, if_revision: int | None
) -> tuple[dict[str, str], int | None]:
    """All tags as they shall be, and the revision they were read at: a change in between must not be lost."""
    model = registry.get(model_id)
    merged = {**model.tags, **tags}
    for key in untag or []:
        merged.pop(key, None)
    return merged, model.revision if if_revision is None else if_revision


def edit_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model, as `ls --names` tells it.")],
    description: options.Description = None,
    tag: options.Tag = None,
    untag: Untag = None,
    clear: Annotated[bool, typer.Option("--clear-description", help="Empty the description.")] = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Change what all versions of a registered model share."""
    changes: dict[str, Any] = given(description=description)
    if clear:
        changes["description"] = None
    tags: dict[str, str | None] = {**pairs(tag), **dict.fromkeys(untag or [])}
    if tags:
        changes["tags"] = tags
    if not changes:
        raise Misused("Nothing is said to change.", "Say what, such as --description TEXT.")
    with session(url, as_json, quiet) as (registry, output):
        registered = registry.edit_registered_model(name, **changes)
        output.line(registered.name, registered.model_dump(mode="json", exclude={"versions", "latest"}))


def remove(
    model_ids: Annotated[list[str], typer.Argument(metavar="ID", help="The ids of the models.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Delete models with their files, for good.

    Prints the ids of those that are gone.
    """
    if not yes and not sys.stdin.isatty():
        raise Misused("Nobody can be asked here.", "Say --yes to delete without a question.")
    with session(url, as_json, quiet) as (registry, output):
        if not yes:
            for model in [registry.get(model_id) for model_id in model_ids]:
                output.ask_about(f"{model.name} {model.version}, id {model.id}")
            if not typer.confirm("Delete for good?", err=True):
                output.say("nothing was deleted")
                raise typer.Exit(0)
        output.lines(([model_id], {"id": model_id}) for model_id in _deleted(registry, model_ids))


def _deleted(registry: "Registry", model_ids: list[str]) -> Iterator[str]:
    for model_id in model_ids:
        try:
            registry.delete(model_id)
        except NotFound as exc:
            raise NotFound(f"{model_id}: {exc}") from exc
        yield model_id


def list_aliases(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model.")],
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List the aliases of a registered model, and the number each points at."""
    with session(url, as_json, quiet) as (registry, output):
        aliases = sorted(registry.aliases(name).items())
        output.lines(([alias, number], {"alias": alias, "number": number}) for alias, number in aliases)


def set_alias(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The alias, such as champion.")],
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="The number of the version, as `ls NAME` tells it.")],
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Point an alias at a version, wherever it pointed before."""
    with session(url, as_json, quiet) as (registry, output):
        registered = registry.set_alias(name, alias, number)
        output.say(f"{alias} of {registered.name} is now number {number}")
        output.document(registered.model_dump(mode="json", exclude={"versions", "latest"}))


def remove_alias(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The alias.")],
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove an alias; the version it points at stays."""
    with session(url, as_json, quiet) as (registry, output):
        registered = registry.remove_alias(name, alias)
        output.say(f"{registered.name} has no alias {alias} any more")
        output.document(registered.model_dump(mode="json", exclude={"versions", "latest"}))
