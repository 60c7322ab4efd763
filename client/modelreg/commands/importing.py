"""`import`: models from elsewhere."""

import base64
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelreg import exits, options
from modelreg.config import settings
from modelreg.session import resumable, session

if TYPE_CHECKING:
    from modelreg.mlflow_import import Imported


# Longer than functions are here: Typer wants a parameter for each option.
def from_mlflow(
    source: Annotated[
        str, typer.Argument(metavar="URI", help="What MLFLOW_TRACKING_URI would say: a server, a database or a folder.")
    ],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="A registered model there; else all, prompts too.")
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", metavar="NAME", help="The project here that they go into.")
    ] = None,
    keep_addresses: Annotated[
        bool,
        typer.Option(
            "--keep-addresses", help="Register versions whose files cannot be read without them, by their address."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be imported.")] = False,
    workspace: Annotated[
        Path | None,
        typer.Option("--workspace", metavar="DIR", help="Where the largest version has room twice; else $TMPDIR."),
    ] = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Import registered models of MLflow: versions under their numbers, with files, tags, aliases and stages.

    What is here from an earlier time is not sent again, only brought up to date: what broke off goes on, and what
    is new there comes later. Each file is read back and compared before its version is registered. If something could
    not be imported, it ends with exit code 10. It needs MLflow's library, credentials for the source in the variables
    that MLflow has for them, and an admin token here if versions were deleted there.
    """
    from modelreg.http import split_credentials
    from modelreg.mlflow_import import MlflowImport, Outcome

    with session(url, as_json, quiet) as (registry, output), resumable():
        registry.health()
        chosen = settings(url, os.environ)
        base, authorization = split_credentials(chosen.needed_url(), chosen.token)
        importing = MlflowImport(
            source,
            base,
            _credentials(authorization),
            project=project,
            workspace=workspace,
            keep_addresses=keep_addresses,
        )
        outcomes: list[Imported] = []

        def arriving() -> Iterator[tuple[Sequence[object], dict[str, Any]]]:
            for one in importing.outcomes(names or (), dry_run=dry_run):
                outcomes.append(one)
                yield (one.name, one.version or "", one.outcome, one.why), one.model_dump(mode="json")

        output.lines(arriving())
        counts = {outcome: sum(one.outcome is outcome for one in outcomes if one.version) for outcome in Outcome}
        output.say(
            f"versions: {', '.join(f'{count} {outcome}' for outcome, count in counts.items() if count) or 'none'}"
        )
        if any(one.outcome in (Outcome.FAILED, Outcome.WAITING) for one in outcomes):
            raise typer.Exit(exits.NO)


def _credentials(authorization: str | None) -> tuple[str, str] | None:
    """User and password, the way MLflow's library takes a token, too."""
    if authorization is None:
        return None
    scheme, _, value = authorization.partition(" ")
    if scheme == "Bearer":
        return "modelreg", value
    user, _, password = base64.b64decode(value).decode().partition(":")
    return user, password
