"""`admin bootstrap` and `doctor`: what is done with the AWS credentials of whoever runs the registry, not a token."""

import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelreg import exits, options, session
from modelreg.commands.setup import store_login
from modelreg.config import config_file, settings, write_private
from modelreg.errors import (
    Conflict,
    ConnectionFailed,
    Forbidden,
    InvalidInput,
    LocalError,
    NotARegistry,
    NotFound,
    RegistryError,
    Throttled,
    Unauthorized,
)
from modelreg.exits import Interrupted, Misused
from modelreg.functions import Function, Place, find_function
from modelreg.output import Output, drop_output, is_terminal
from modelreg.tokens import Minted, minted

if TYPE_CHECKING:
    from modelreg.models import Finding

# After these, the function was certainly not called, or did nothing.
NOTHING_DONE = (ConnectionFailed, Forbidden, InvalidInput, LocalError, NotFound, Throttled, Unauthorized)
BOOTSTRAP_OUTPUT, DOCTOR_OUTPUT = "BootstrapFunctionName", "DoctorFunctionName"


# Longer than functions are here: Typer wants a parameter for each option.
def bootstrap(
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the token: the trail shows it.")
    ] = "admin",
    stack: options.Stack = None,
    function: options.FunctionName = None,
    endpoint_url: options.EndpointUrl = None,
    region: options.Region = None,
    login: Annotated[
        bool, typer.Option("--login", help="Also store the token and the URL, as `modelreg login` does.")
    ] = False,
    url: options.Url = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Make the first admin token of a registry, and print it: this once.

    The token is made here; only its SHA-256 is handed over, to a function that AWS credentials open. It is refused
    where there is an admin already. Needs boto3, which the extra `admin` brings.
    """
    output = Output(as_json=as_json, quiet=quiet)
    place = _checked_url(url) if login else None
    found = find_function(_place(stack, function, endpoint_url, region), BOOTSTRAP_OUTPUT)
    if not _may_be_read(output):
        raise LocalError("Nobody would read the token, so none was made.", hint="Let something read the output.")
    token = minted()
    _register(found, token, name)
    _hand_over(output, token, name)
    output.say(f"token {token.id} of {name}, admin, does not expire; it is not shown again")
    if place is None:
        output.say("store it with `modelreg login`")
        return
    session.try_token(place, token.text)
    store_login(place, token.text, output)


def _place(stack: str | None, function: str | None, endpoint_url: str | None, region: str | None) -> Place:
    if bool(stack) == bool(function):
        what = "Both --stack and --function are given" if stack else "It is not said where the function is"
        raise Misused(f"{what}.", "Say --stack STACK, as it was deployed, or --function NAME.")
    return Place(stack, function, endpoint_url, region)


def _checked_url(url: str | None) -> str:
    """The URL at which a registry answers: asked before there is a token, which then had nowhere to go."""
    place = settings(url, os.environ).needed_url()
    with session.open_registry(place, None) as registry:
        registry.health()
    return place


def _may_be_read(output: Output) -> bool:
    """Whether the token has a chance: not if standard output is closed, or a pipe that nobody reads."""
    try:
        poll = select.poll()
        poll.register(output.data.fileno(), 0)
        return not any(events & (select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0))
    except AttributeError:
        return output.data is not None
    except (OSError, ValueError):
        return True


def _register(function: Function, token: Minted, name: str) -> None:
    from modelreg.models import Bootstrapped

    try:
        # The same again, if an answer is lost on the way, is no second token.
        answer = function.call(Bootstrapped, {"id": token.id, "name": name, "digest": token.digest})
    except NOTHING_DONE:
        raise
    except (RegistryError, KeyboardInterrupt) as exc:
        hint = (
            f"Perhaps the token was made all the same. It is in {_kept(token)}, which only you can read: try it with"
            " `modelreg login --token-stdin`. If it is not known there, remove the file and start again."
        )
        if isinstance(exc, RegistryError):
            exc.hint = hint
            raise
        raise Interrupted(hint) from None
    if answer.outcome == "refused":
        raise Conflict(
            answer.reason or "There is an admin already.",
            code="bootstrap_refused",
            hint="An admin makes further tokens: `modelreg token create NAME --role admin`.",
        )


def _hand_over(output: Output, token: Minted, name: str) -> None:
    """Prints the token, or keeps it in a file: as the only admin's, it must not be lost."""
    try:
        output.hand_over(token.text, {"token": token.text, "id": token.id, "name": name, "role": "admin"})
    except OSError:
        drop_output()
        raise LocalError(
            f"The token could not be printed; it is in {_kept(token)}, which only you can read.",
            hint="Store it with `modelreg login --token-stdin` from there, then remove the file.",
        ) from None


def _kept(token: Minted) -> Path:
    path = config_file(os.environ).path.parent / f"token-{token.id}"
    write_private(path, f"{token.text}\n")
    return path


def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Also repair what is safe to repair.")] = False,
    stack: options.Stack = None,
    function: options.FunctionName = None,
    endpoint_url: options.EndpointUrl = None,
    region: options.Region = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare all that is stored, and list what is wrong.

    Nothing is changed without --repair. If something is left that is wrong, it ends with exit code 10.
    Needs boto3, which the extra `admin` brings.
    """
    output = Output(as_json=as_json, quiet=quiet)
    found = find_function(_place(stack, function, endpoint_url, region), DOCTOR_OUTPUT)
    rounds = _Rounds(found, repair, output)
    try:
        output.lines((_cells(finding, output), finding.model_dump(mode="json")) for finding in rounds)
    except BrokenPipeError:
        drop_output()
        raise LocalError("Nobody reads the findings any more, so the doctor stopped.", hint="Start it again.") from None
    output.say(rounds.summary())
    if rounds.left:
        raise typer.Exit(exits.NO)


class _Rounds:
    """All steps of the doctor; iterated, its findings as they come, with its progress on standard error."""

    def __init__(self, function: Function, repair: bool, output: Output) -> None:
        self._function = function
        self._repair = repair
        self._output = output
        self._counts: dict[str, int] = {}
        self._repaired = self._repairable = self.left = 0

    def __iter__(self) -> "Iterator[Finding]":
        from modelreg.models import Examined

        after: str | None = None
        while True:
            step = self._function.call(Examined, {"repair": self._repair, "after": after})
            for finding in step.findings:
                self._count(finding)
                yield finding
            for what, count in step.counts.items():
                self._counts[what] = self._counts.get(what, 0) + count
            if step.after is None:
                return
            if step.after == after:
                raise NotARegistry(f"{self._function.name} stays where it is, at the same position again and again.")
            after = step.after
            self._output.say(f"so far: {self._looked_at()}")

    def _count(self, finding: "Finding") -> None:
        self._repaired += finding.repaired
        self.left += not finding.repaired
        self._repairable += finding.safe and not finding.repaired

    def _looked_at(self) -> str:
        return ", ".join(f"{what} {count:,}" for what, count in self._counts.items()) or "nothing"

    def summary(self) -> str:
        told = f"{self._repaired} repaired, {self.left} left" if self._repaired or self.left else "nothing is wrong"
        hint = f"; --repair would mend {self._repairable}" if self._repairable and not self._repair else ""
        return f"{told}{hint}; looked at: {self._looked_at()}"


def _cells(finding: "Finding", output: Output) -> list[str]:
    outcome = "repaired" if finding.repaired else "repairable" if finding.safe else "not repairable"
    if is_terminal(output.data):
        return [f"{finding.kind}: {finding.subject}: {finding.what} ({outcome})"]
    return [finding.kind, finding.subject, finding.what, outcome]
