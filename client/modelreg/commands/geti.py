"""`geti`: models of an Intel Geti server, their import, the sync, and what is in the way of it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelreg import exits, options
from modelreg.errors import Ambiguous, Conflict, NotFound
from modelreg.output import Column, Output, as_text, is_terminal
from modelreg.session import session

if TYPE_CHECKING:
    from modelreg.geti_models import Check, GetiProject, Import, SyncRun
    from modelreg.registry import Registry

PROJECT_COLUMNS = (
    Column("ID", lambda project: project.id),
    Column("NAME", lambda project: project.name),
    Column("CREATED", lambda project: project.creation_time, may_go=True),
    Column("MODELS", lambda project: len(project.importable())),
)
MODEL_COLUMNS = (
    Column("ID", lambda model: model.id),
    Column("NAME", lambda model: model.name),
    Column("VERSION", lambda model: model.version),
    Column("GROUP", lambda model: model.group_name),
    Column("GROUP ID", lambda model: model.group_id, may_go=True),
)
OUTCOME_COLUMNS = (
    Column("ID", lambda model: model.id),
    Column("OUTCOME", lambda model: model.outcome),
    Column("WHY", lambda model: model.why),
)
# Of a run, before what is counted, named or empty.
RUN_FIELDS = ("run_id", "started_at", "finished_at", "outcome", "dry_run", "full")

ProjectOf = Annotated[str, typer.Argument(metavar="PROJECT", help="The id or the name of a project in Geti.")]


def list_projects(
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List the projects of the Geti server, and how many models of each can be imported.

    The server is asked now. With --json, the models are listed too.
    """
    with session(url, as_json, quiet) as (registry, output):
        if not output.rows(PROJECT_COLUMNS, registry.projects()):
            output.say("no projects: the user of the registry's token sees none, or your token is limited to others")


def show(
    project: ProjectOf,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """List what can be imported from a project of Geti."""
    with session(url, as_json, quiet) as (registry, output):
        found = _project_of(registry, project)
        output.document(found.model_dump(mode="json"))
        if not as_json and not output.rows(MODEL_COLUMNS, found.importable()):
            output.say("nothing can be imported: no model in OpenVINO format is finished, or their files are gone")


def _project_of(registry: "Registry", text: str) -> "GetiProject":
    """By its id, or else by its name in any case. Raises NotFound and Ambiguous."""
    try:
        return registry.project(text)
    except NotFound as exc:
        found = [project for project in registry.projects() if project.name.casefold() == text.casefold()]
        if not found:
            hint = "`modelreg geti projects` lists them."
            raise NotFound(f"There is no project {text!r} in Geti.", code=exc.code, hint=hint) from None
    if len(found) > 1:
        ids = ", ".join(project.id for project in found)
        raise Ambiguous(f"Several projects are called {text!r}: {ids}.", hint="Say which one by its id.")
    return found[0]


def import_models(
    project: ProjectOf,
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="The id of a model in it, as `geti show` lists it; one or more."),
    ],
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until all have ended, as it does unless told not to.")
    ] = True,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Register models of a Geti project, active or not, and print what became of each.

    If one could not be registered, it ends with exit code 10; if the registry can tell beforehand, none is.
    """
    with session(url, as_json, quiet) as (registry, output):
        found = _project_of(registry, project)
        _show_import(registry.import_models(found, models, wait=wait), output)


def _show_import(asked: "Import", output: Output) -> None:
    output.document(asked.model_dump(mode="json"))
    if not output.as_json:
        output.rows(OUTCOME_COLUMNS, asked.models)
    if asked.state == "running":
        output.say(f"it goes on; `modelreg geti status {asked.id}` tells what becomes of it")
    if asked.failed:
        raise typer.Exit(exits.NO)


def sync(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only find out what it would do: nothing is imported or marked.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Look at every model anew, and try once more what was given up.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is finished, and tell of it.")] = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Start a sync with Geti, and print the id of the run.

    It begins by itself every 15 minutes, too. With --wait it tells what the run did, and ends with exit code 10 if
    some of it failed. It needs an admin token without limits.
    """
    with session(url, as_json, quiet) as (registry, output):
        run_id = registry.start_sync(dry_run=dry_run, full=full)
        if not wait:
            output.line(run_id, {"run_id": run_id})
            return
        run = registry.wait_for_sync(run_id)
        output.fields(_fields_of(run) if not as_json else run.model_dump(mode="json"))
        if run.outcome != "ok":
            raise typer.Exit(exits.NO)


def status(
    import_id: Annotated[
        str | None, typer.Argument(metavar="IMPORT", help="The id of an import: what became of that, instead.")
    ] = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Tell how far the sync is, or what the last run did; or what became of an import.

    Of what was skipped and what failed, the first hundred are named. The sync needs an admin token without limits.
    """
    with session(url, as_json, quiet) as (registry, output):
        if import_id is not None:
            _show_import(registry.import_status(import_id), output)
            return
        found = registry.sync_status()
        run = found.run or found.last_run
        document: dict[str, Any] = {"state": found.state, **(_fields_of(run) if run else {})}
        output.fields(found.model_dump(mode="json") if as_json else document)
        if run is None:
            output.say("there was no sync yet")


def _fields_of(run: "SyncRun") -> dict[str, Any]:
    """A run, as a name and a value a line."""
    told = run.model_dump(mode="json")
    lists = {name: [f"{one.id}: {one.why}" for one in getattr(run, name)] for name in ("skipped", "failed")}
    fields = {name: told[name] for name in RUN_FIELDS}
    return {
        **fields,
        **{f"models_{name}": count for name, count in told["counts"].items()},
        "outstanding": run.outstanding,
        "requests": run.requests,
        **{f"why_{name}": "; ".join(lines) or None for name, lines in lists.items()},
    }


def doctor(
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Check the way to Geti, and what a sync would do.

    Each check says what was found and, where it is not right, what to do: then it ends with exit code 10. If all is
    right, a sync is tried that changes nothing. It needs an admin token without limits.
    """
    with session(url, as_json, quiet) as (registry, output):
        checks = registry.geti_checks()
        if not as_json:
            output.lines((_cells(check, output), {}) for check in checks)
        is_right = all(check.ok for check in checks)
        run = _tried(registry, output) if is_right else None
        if as_json:
            shown = [check.model_dump(mode="json") for check in checks]
            output.document({"checks": shown, "dry_run": run.model_dump(mode="json") if run else None})
        elif run:
            output.lines([(_cells(_as_check(run), output), {})])
        if not is_right or (run and run.outcome == "failed"):
            raise typer.Exit(exits.NO)


def _tried(registry: "Registry", output: Output) -> "SyncRun | None":
    """A dry run; None while a sync is going on."""
    output.say("trying a sync that changes nothing")
    try:
        return registry.wait_for_sync(registry.start_sync(dry_run=True))
    except Conflict:
        output.say("a sync is going on, so none was tried; `modelreg geti status` tells how far it is")
        return None


def _as_check(run: "SyncRun") -> "Check":
    from modelreg.geti_models import Check

    counts, why = run.counts, "; ".join(f"{one.id}: {one.why}" for one in run.failed[:3])
    found = (
        f"A sync would import {counts.new} of {counts.seen} models, skip {counts.skipped} and mark {counts.marked};"
        f" {counts.failed} failed{f' ({why})' if why else ''}."
    )
    return Check(check="dry run", ok=run.outcome != "failed", found=found)


def _cells(check: "Check", output: Output) -> list[str]:
    verdict = "right" if check.ok else "wrong"
    if is_terminal(output.data):
        fix = f" {check.fix}" if check.fix else ""
        return [f"{check.check}: {verdict}: {check.found}{fix}"]
    return [check.check, verdict, check.found, as_text(check.fix)]
