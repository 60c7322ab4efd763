"""`login` and `config`: which registry, and with which token. A token is never an argument, and never shown."""

import os
import sys
from typing import Annotated

import typer

from modelreg import options, session
from modelreg.config import (
    NOT_SET,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    checked_token,
    checked_url,
    config_file,
    settings,
    without_secrets,
)
from modelreg.exits import Misused
from modelreg.output import Output
from modelreg.tokens import checked_form

URL_KEY, TOKEN_KEY = "url", "token"


def login(
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read the token from standard input instead of asking for it.")
    ] = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Store a token and the URL it is for.

    The token is asked for without echo, checked for characters that are missing or wrong, and tried: the registry
    must answer there and let it in. It is only ever sent to this URL.
    """
    output = Output(as_json=as_json, quiet=quiet)
    place = settings(url, os.environ).needed_url()
    session.warn_of_history(url, output)
    token = checked_form(checked_token(_token(token_stdin)))
    session.try_token(place, token)
    path = store_login(place, token, output)
    output.document({"url": without_secrets(place), "path": path})


def store_login(place: str, token: str, output: Output) -> str:
    """Keep a token that was tried, and the URL it is for; where that is."""
    file = config_file(os.environ)
    file.write(url=place, token=token)
    output.say(f"{without_secrets(place)} lets this token in; it is in {file.path}")
    if os.environ.get(TOKEN_VARIABLE):
        output.say(f"note that {TOKEN_VARIABLE} is set, and wins over the config file")
    return str(file.path)


def _token(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.read(64 * 1024)
    if not sys.stdin.isatty():
        raise Misused("Nobody can be asked here.", "Hand the token over on standard input, with --token-stdin.")
    answer: str = typer.prompt("Token", hide_input=True, err=True)
    return answer


def show_config(
    context: typer.Context,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Show or change where the registry is.

    Alone, shows which settings hold and where each comes from; of the token only whether it is set.
    """
    if context.invoked_subcommand:
        return
    chosen = settings(url, os.environ)
    rows = {
        URL_KEY: (without_secrets(chosen.url) if chosen.url else None, chosen.url_source),
        TOKEN_KEY: ("set" if chosen.token else None, chosen.token_source),
    }
    output = Output(as_json=as_json, quiet=quiet)
    if as_json:
        output.document({key: {"value": value, "source": source} for key, (value, source) in rows.items()})
        return
    for key, (value, source) in rows.items():
        shown = f"{value}\t{source}" if value else f"{NOT_SET}\t"
        for_people = f"{value} (from {source})" if value else NOT_SET
        output.pair(key, shown, for_people)


def set_config(
    key: Annotated[str, typer.Argument(metavar="KEY", help="url")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="The base URL of the registry.")],
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Store the URL. A token that is stored for another URL is removed."""
    if key == TOKEN_KEY:
        raise Misused("A token is no argument: others can see arguments.", "Type `modelreg login`.")
    _check_key(key, (URL_KEY,))
    output = Output(as_json=as_json, quiet=quiet)
    file, place = config_file(os.environ), checked_url(value)
    session.warn_of_history(place, output)
    stored = file.read()
    before = stored.get(URL_KEY)
    moved = TOKEN_KEY in stored and (not before or without_secrets(before) != without_secrets(place))
    file.write(url=place, **({TOKEN_KEY: None} if moved else {}))
    if moved:
        output.say("the stored token was for another URL and is removed; type `modelreg login`")
    if os.environ.get(URL_VARIABLE):
        output.say(f"note that {URL_VARIABLE} is set, and wins over the config file")
    output.document({"url": without_secrets(place), "path": str(file.path)})


def unset_config(
    key: Annotated[str, typer.Argument(metavar="KEY", help="url or token")],
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Forget the URL and the token that is for it, or only the token."""
    _check_key(key, (URL_KEY, TOKEN_KEY))
    output = Output(as_json=as_json, quiet=quiet)
    file = config_file(os.environ)
    gone = (URL_KEY, TOKEN_KEY) if key == URL_KEY else (TOKEN_KEY,)
    removed = [name for name in gone if name in file.read()]
    if removed:
        file.write(**dict.fromkeys(removed))
    output.say(f"removed {' and '.join(removed)}" if removed else f"{key} was not set")
    output.document({"removed": removed, "path": str(file.path)})


def show_path(
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Print where the config file is, or would be."""
    path = str(config_file(os.environ).path)
    Output(as_json=as_json, quiet=quiet).line(path, {"path": path})


def _check_key(key: str, keys: tuple[str, ...]) -> None:
    if key not in keys:
        raise Misused(f"There is no setting {key!r} here.", f"There is {' and '.join(keys)}.")
