"""The `modelreg` command: which commands there are, and how each ends.

    push  pull  ls  show  search  manifest  edit  edit-model  rm  alias  uploads
    geti  import  token  can  events  audit  admin  doctor  login  config

Data goes to standard output, talk to standard error, and the exit code is one of exits.EXITS, whatever happens. No
traceback is shown unless MODELREG_DEBUG is set. Neither the library nor its dependencies are imported before a
command needs them, so help and completion are quick.
"""

import inspect
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from modelreg import exits
from modelreg.commands import audit, change, fetch, geti, importing, look, operate, publish, setup, tokens, trail
from modelreg.errors import RegistryError
from modelreg.output import PROGRAM, Output, drop_output
from modelreg.tokens import without_secrets

DEBUG_VARIABLE = "MODELREG_DEBUG"


class Commands(TyperGroup):
    """The commands, each of which ends with an exit code of ours and a sentence instead of a traceback."""

    as_json = False

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        arguments = list(sys.argv[1:] if args is None else args)
        # Looked for in the text: an error of usage comes before any option is understood.
        self.as_json = "--json" in arguments
        try:
            # Not standalone: Typer would word the errors of usage in its own way.
            code = super().main(arguments or ["--help"], PROGRAM, complete_var, False, windows_expand_args, **extra)
        except typer.TyperException as exc:
            code = _misused(exc, Output(as_json=self.as_json))
        sys.exit(code or exits.OK)

    def invoke(self, ctx: Any) -> Any:
        # Here and not in main: on the way there Typer turns an interruption and a broken pipe into codes of its own.
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (typer.Exit, typer.TyperException):
            raise
        except (Exception, KeyboardInterrupt) as exc:
            raise typer.Exit(_ended(exc, Output(as_json=self.as_json))) from exc
        return result


def _misused(error: typer.TyperException, output: Output) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else PROGRAM
    message, hint = error.format_message(), f"`{command} --help` shows how."
    if without_secrets(message) != message:
        hint = (
            "A token is no argument: others see it, and the shell keeps it. Revoke it; `modelreg login` asks for one."
        )
    output.fail("usage", message, hint)
    return exits.USAGE


def _ended(error: BaseException, output: Output) -> int:
    """Says what went wrong, and returns the exit code. Nobody reading on (`| head`) is no error."""
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exception(error)
    try:
        return _reported(error, output)
    except BrokenPipeError:
        drop_output()
        return exits.UNEXPECTED


def _reported(error: BaseException, output: Output) -> int:
    match error:
        case BrokenPipeError():
            drop_output()
            return exits.OK
        case RegistryError():
            report = exits.report_of(error)
            output.fail(report.code, report.message, report.hint)
            return report.exit_code
        case exits.Misused():
            output.fail("usage", str(error), error.hint)
            return exits.USAGE
        case exits.Interrupted() | KeyboardInterrupt() | typer.Abort():
            output.fail("interrupted", "Interrupted.", getattr(error, "hint", ""))
            return exits.INTERRUPTED
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            output.fail("local_error", f"{place}{error.strerror or error}.", "Make room or give permission.")
            return exits.LOCAL
    output.fail(
        "unexpected",
        f"Something unexpected happened: {type(error).__name__}: {error}",
        f"This is a bug. Set {DEBUG_VARIABLE}=1 to see where, and report it.",
    )
    return exits.UNEXPECTED


def _show_version(wanted: bool) -> None:
    if wanted:
        from modelreg import __version__

        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version of this command.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Publish, find and fetch models of a Model Registry.

    Data goes to standard output, everything else to standard error. Say where the registry is with `modelreg config
    set url URL`, the variable MODELREG_URL or --url; a token comes from MODELREG_TOKEN or `modelreg login`.
    """


def _group(help_text: str, **settings: Any) -> typer.Typer:
    return typer.Typer(
        help=help_text, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False, **settings
    )


def _build() -> typer.Typer:
    # Without rich markup, help is plain text: the same on the page, in a pipe and on a terminal, and quicker.
    app = typer.Typer(
        name=PROGRAM, cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False, epilog=exits.epilog()
    )
    app.callback()(_root)
    # In the order of the help and of the page.
    _add_models(app)
    _add_access(app)
    _add_setup(app)
    return app


def _add_models(app: typer.Typer) -> None:
    """What everybody does: publish, find, fetch and change."""
    app.command("push")(publish.push)
    app.command("pull")(fetch.pull)
    app.command("ls")(look.list_models)
    app.command("show")(look.show)
    app.command("search")(look.search)
    app.command("manifest")(look.manifest)
    app.command("edit")(change.edit)
    app.command("edit-model")(change.edit_model)
    app.command("rm")(change.remove)

    alias = _group("Names for versions, such as champion.")
    alias.command("ls")(change.list_aliases)
    alias.command("set")(change.set_alias)
    alias.command("rm")(change.remove_alias)
    app.add_typer(alias, name="alias")

    uploads = _group("Uploads that were begun but not finished.")
    uploads.command("abort")(publish.abort_upload)
    app.add_typer(uploads, name="uploads")

    from_geti = _group("Models of an Intel Geti server: import them, and watch the sync.")
    from_geti.command("projects")(geti.list_projects)
    from_geti.command("show")(geti.show)
    from_geti.command("import")(geti.import_models)
    from_geti.command("sync")(geti.sync)
    from_geti.command("status")(geti.status)
    from_geti.command("doctor")(geti.doctor)
    app.add_typer(from_geti, name="geti")

    imports = _group("Models of other registries.")
    imports.command("mlflow")(importing.from_mlflow)
    app.add_typer(imports, name="import")


def _add_access(app: typer.Typer) -> None:
    """Who may do what, who did it, and what its operators need."""
    token = _group("Tokens: who may do what. Only for admins without limits.")
    token.command("create")(tokens.create)
    token.command("ls")(tokens.list_tokens)
    token.command("show")(tokens.show)
    token.command("revoke")(tokens.revoke)
    app.add_typer(token, name="token")
    app.command("can")(tokens.can)
    app.command("events")(trail.events)

    auditing = _group("The audit trail: keep it, and prove that it is whole.")
    auditing.command("verify")(audit.verify)
    auditing.command("export")(audit.export)
    app.add_typer(auditing, name="audit")

    admin = _group("What needs AWS credentials instead of a token.")
    admin.command("bootstrap")(operate.bootstrap)
    app.add_typer(admin, name="admin")
    app.command("doctor")(operate.doctor)


def _add_setup(app: typer.Typer) -> None:
    """Which registry, and as whom."""
    app.command("login")(setup.login)
    config = _group(inspect.getdoc(setup.show_config) or "", invoke_without_command=True)
    config.callback()(setup.show_config)
    config.command("set")(setup.set_config)
    config.command("unset")(setup.unset_config)
    config.command("path")(setup.show_path)
    app.add_typer(config, name="config")


app = _build()


def main() -> None:
    """The command, as the shell starts it. Ends the process."""
    app()
