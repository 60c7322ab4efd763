"""`modelreg admin bootstrap` and `doctor`, with a Lambda on a loopback port."""

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelreg import Registry, cli, exits, functions, session
from modelreg.models import Asker, Examined
from modelreg.models import Finding as Told
from modelreg.retry import Patience
from modelreg.tokens import is_whole

from chalicelib.registry.access import Actor
from chalicelib.registry.doctor import Finding, Kind, Order, Report
from chalicelib.registry.granting import Granting
from chalicelib.registry.tokens import digest_of, id_in
from chalicelib.store.catalog import DynamoCatalog
from tests.client.command_stage import URL, Ran, Stage, stage
from tests.client.fake_lambda import CUT, STACK, FakeLambda, Reply, failed, refused, serving
from tests.client.fake_registry import problem
from tests.conftest import Clock, ulids

BOOTSTRAP, DOCTOR = "registry-bootstrap", "registry-doctor"
HTML = Reply(200, "<html>log in</html>", {"Content-Type": "text/html"})


class Bootstrap:
    """As the registry's function does: one admin, and the same again is the same."""

    def __init__(self) -> None:
        self.admin: dict[str, Any] | None = None

    def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.admin not in (None, asked):
            return {"outcome": "refused", "reason": "There is an admin already: let them create a token."}
        self.admin = asked
        return {"outcome": "created", "id": asked["id"], "name": asked["name"]}


@pytest.fixture
def lambdas(credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLambda]:
    with serving() as fake:
        fake.functions = {BOOTSTRAP: Bootstrap()}
        fake.outputs = {"BootstrapFunctionName": BOOTSTRAP, "DoctorFunctionName": DOCTOR}
        yield fake


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: Patience, lambdas: FakeLambda) -> Stage:
    ready = stage(tmp_path, monkeypatch)
    monkeypatch.setattr(functions, "Patience", lambda: patience)
    return ready


def bootstrap(modelreg: Stage, lambdas: FakeLambda, *arguments: str) -> Ran:
    return modelreg("admin", "bootstrap", "--function", BOOTSTRAP, "--endpoint-url", lambdas.url, *arguments)


def doctor(modelreg: Stage, lambdas: FakeLambda, *arguments: str) -> Ran:
    return modelreg("doctor", "--function", DOCTOR, "--endpoint-url", lambdas.url, *arguments)


def kept(modelreg: Stage) -> list[Path]:
    return sorted(modelreg.config.parent.glob("token-*"))


def test_the_first_token_is_made_here_and_only_its_digest_is_handed_over(modelreg, lambdas):
    ran = bootstrap(modelreg, lambdas, "--name", "root")

    (token,) = ran.lines
    assert ran.exit_code == 0
    assert is_whole(token)
    assert lambdas.invoked == [
        (BOOTSTRAP, {"id": id_in(token), "name": "root", "digest": hashlib.sha256(token.encode()).hexdigest()})
    ]
    assert not any(token[-49:].encode() in sent for sent in lambdas.raw)
    assert token not in ran.stderr
    assert kept(modelreg) == []


def test_the_service_itself_takes_the_token(aws: None, clock: Clock, modelreg: Stage, lambdas: FakeLambda) -> None:
    catalog = DynamoCatalog("RegistryTable", "EventsTable", ulids())
    granting = Granting(catalog, clock, ulids(), lambda *_: None)

    def bootstrapped(asked: dict[str, Any]) -> dict[str, str]:
        granting.bootstrap(asked["id"], asked["name"], asked["digest"])
        return {"outcome": "created"}

    lambdas.functions[BOOTSTRAP] = bootstrapped
    (token,) = bootstrap(modelreg, lambdas).lines

    stored = catalog.tokens.find(id_in(token) or "")
    assert stored is not None
    assert stored.digest == digest_of(token)
    assert stored.token.access.is_unlimited_admin


def test_the_function_is_found_by_the_stack(modelreg, lambdas):
    ran = modelreg(
        "admin", "bootstrap", "--stack", STACK, "--endpoint-url", lambdas.url, "--region", "eu-west-1", "--json"
    )

    assert (ran.exit_code, ran.document["role"], ran.document["name"]) == (0, "admin", "admin")
    assert [name for name, _ in lambdas.invoked] == [BOOTSTRAP]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        ((), 2, "--stack STACK"),
        (("--stack", STACK, "--function", BOOTSTRAP), 2, "Both"),
        (("--stack", "other"), 3, "does not exist"),
        (("--function", "other"), 3, "Function not found"),
        (("--function", ""), 2, "--stack STACK"),
    ],
)
def test_a_function_that_is_not_there_is_named(modelreg, lambdas, arguments, exit_code, words):
    ran = modelreg("admin", "bootstrap", *arguments, "--endpoint-url", lambdas.url)

    assert (ran.exit_code, ran.stdout, kept(modelreg)) == (exit_code, "", [])
    assert words in ran.stderr


def test_a_stack_without_the_function_is_no_registry_or_an_old_one(modelreg, lambdas):
    lambdas.outputs = {"ApiUrl": URL}

    ran = modelreg("admin", "bootstrap", "--stack", STACK, "--endpoint-url", lambdas.url)

    assert ran.exit_code == 3
    assert "no output BootstrapFunctionName" in ran.stderr


def test_a_registry_that_has_an_admin_takes_no_other(modelreg, lambdas):
    bootstrap(modelreg, lambdas)

    ran = bootstrap(modelreg, lambdas)

    assert (ran.exit_code, ran.stdout, kept(modelreg)) == (4, "", [])
    assert "There is an admin already" in ran.stderr
    assert "modelreg token create" in ran.stderr


@pytest.mark.parametrize("lost", [[CUT], [CUT, CUT], [refused(502, "ServiceException"), None]])
def test_an_answer_that_was_lost_is_asked_for_again(modelreg, lambdas, lost):
    lambdas.replies = list(lost)

    ran = bootstrap(modelreg, lambdas)

    assert ran.exit_code == 0
    assert len({json.dumps(payload) for _, payload in lambdas.invoked}) == 1
    assert lambdas.functions[BOOTSTRAP].admin["digest"] == digest_of(ran.stdout.strip())


@pytest.mark.parametrize(
    ("replies", "exit_code"),
    [
        ([CUT, CUT, CUT], 7),
        ([CUT, refused(403, "AccessDeniedException")], 7),
        ([failed("Sandbox.Timedout", "Task timed out after 3.00 seconds")], 1),
        ([HTML], 7),
        ([Reply(200, '{"outcome":"perhaps"}')], 7),
    ],
)
def test_a_token_that_may_have_been_made_is_kept(modelreg, lambdas, replies, exit_code):
    lambdas.replies = replies

    ran = bootstrap(modelreg, lambdas)

    (file,) = kept(modelreg)
    assert (ran.exit_code, ran.stdout) == (exit_code, "")
    assert is_whole(file.read_text().strip())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in ran.stderr
    assert file.read_text().strip() not in ran.stderr
    assert "secret-line" not in ran.stderr


def test_an_interruption_keeps_the_token_too(modelreg, lambdas, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(functions.Function, "_called", interrupted)

    ran = bootstrap(modelreg, lambdas)

    assert ran.exit_code == 130
    assert str(kept(modelreg)[0]) in ran.stderr


@pytest.mark.parametrize(
    ("reply", "exit_code", "words"),
    [
        (refused(403, "AccessDeniedException", "User: x is not authorized"), 6, "may call the functions"),
        (refused(403, "InvalidSignatureException", "Signature not yet current"), 6, "clock"),
        (refused(403, "UnrecognizedClientException", "The security token is invalid"), 6, "AWS_PROFILE"),
        (refused(429, "TooManyRequestsException", "Rate Exceeded."), 7, "Rate Exceeded."),
    ],
)
def test_what_aws_refuses_is_said_in_its_words(modelreg, lambdas, reply, exit_code, words):
    lambdas.replies = [reply] * 3

    ran = bootstrap(modelreg, lambdas)

    assert (ran.exit_code, ran.stdout, kept(modelreg)) == (exit_code, "", [])
    assert words in ran.stderr


def test_an_aws_that_is_not_there_is_no_bug(modelreg, lambdas):
    ran = modelreg("admin", "bootstrap", "--function", BOOTSTRAP, "--endpoint-url", "http://127.0.0.1:1")

    assert (ran.exit_code, ran.stdout, kept(modelreg)) == (7, "", [])
    assert "--endpoint-url" in ran.stderr


@pytest.mark.parametrize("url", ["nonsense", "http://[::1", "ftp://127.0.0.1"])
def test_an_endpoint_that_is_none_is_no_bug(modelreg, url):
    ran = modelreg("admin", "bootstrap", "--function", BOOTSTRAP, "--endpoint-url", url)

    assert (ran.exit_code, ran.stdout) != (0, "")
    assert "bug" not in ran.stderr


def test_a_page_instead_of_a_stack_is_not_aws(modelreg, lambdas, monkeypatch):
    monkeypatch.setattr(FakeLambda, "_stack", lambda *_: HTML)

    ran = modelreg("admin", "bootstrap", "--stack", STACK, "--endpoint-url", lambdas.url)

    assert ran.exit_code == 7
    assert "--endpoint-url" in ran.stderr


@pytest.mark.parametrize(
    ("variable", "exit_code", "words"),
    [("AWS_ACCESS_KEY_ID", 6, "no usable AWS credentials"), ("AWS_DEFAULT_REGION", 5, "--region")],
)
def test_what_aws_needs_to_know_is_asked_for(modelreg, lambdas, monkeypatch, variable, exit_code, words):
    monkeypatch.delenv(variable)
    modelreg.environment["AWS_EC2_METADATA_DISABLED"] = "true"

    ran = bootstrap(modelreg, lambdas)

    assert (ran.exit_code, ran.stdout) == (exit_code, "")
    assert words in ran.stderr


def test_a_profile_that_is_not_there_is_named(modelreg, lambdas):
    modelreg.environment["AWS_PROFILE"] = "nobody"

    ran = bootstrap(modelreg, lambdas)

    assert ran.exit_code == 5
    assert "AWS_PROFILE" in ran.stderr


def test_without_boto3_there_is_a_sentence(modelreg, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)

    for command in (["admin", "bootstrap"], ["doctor"]):
        ran = modelreg(*command, "--function", BOOTSTRAP)

        assert (ran.exit_code, ran.stdout) == (8, "")
        assert "pip install boto3" in ran.stderr


def test_a_token_that_cannot_be_printed_is_kept(modelreg, lambdas, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("modelreg.output.Output.line", full)

    ran = bootstrap(modelreg, lambdas)

    (file,) = kept(modelreg)
    assert ran.exit_code == 8
    assert digest_of(file.read_text().strip()) == lambdas.functions[BOOTSTRAP].admin["digest"]


def run(*arguments: str, home: Path, stdout: int | None, code: str = "") -> subprocess.CompletedProcess[str]:
    """`modelreg` in a process of its own; code runs before it."""
    return subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nfrom modelreg.cli import main; main()", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(cli.__file__).parent.parent),
            "HOME": str(home),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    )


@pytest.mark.parametrize("code", ["", "sys.stdout = None"])
def test_no_token_is_made_where_nobody_would_read_it(lambdas: FakeLambda, tmp_path: Path, code: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ("admin", "bootstrap", "--function", BOOTSTRAP, "--endpoint-url", lambdas.url)

    ran = run(*arguments, home=tmp_path, stdout=writing, code=code)

    os.close(writing)
    assert (ran.returncode, lambdas.invoked) == (8, [])
    assert "none was made" in ran.stderr


class Door:
    """A registry that lets in whom the bootstrap function knows."""

    def __init__(self, admin: Bootstrap, patience: Patience) -> None:
        self.admin = admin
        self.health = httpx.Response(200, json={"status": "ok"})
        self._patience = patience

    def open(self, url: str, token: str | None) -> Registry:
        return Registry(url, token, transport=httpx.MockTransport(self._answer), patience=self._patience)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/health"):
            return self.health
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        is_known = self.admin.admin and self.admin.admin["digest"] == digest_of(token)
        return httpx.Response(200, json=[]) if is_known else problem(401, "unauthenticated")


@pytest.fixture
def door(modelreg: Stage, lambdas: FakeLambda, patience: Patience, monkeypatch: pytest.MonkeyPatch) -> Door:
    admin = lambdas.functions[BOOTSTRAP]
    assert isinstance(admin, Bootstrap)
    door = Door(admin, patience)
    monkeypatch.setattr(session, "open_registry", door.open)
    return door


def test_with_login_the_token_is_tried_and_stored_too(modelreg, lambdas, door):
    ran = bootstrap(modelreg, lambdas, "--login")

    assert ran.exit_code == 0
    assert json.loads(modelreg.config.read_text()) == {"url": URL, "token": ran.stdout.strip()}


def test_with_login_no_token_is_made_before_a_registry_answers(modelreg, lambdas, door):
    door.health = httpx.Response(200, text="<html>", headers={"Content-Type": "text/html"})

    assert (bootstrap(modelreg, lambdas, "--login").exit_code, lambdas.invoked) == (7, [])


def test_with_login_a_url_is_needed(modelreg, lambdas, door):
    modelreg.environment["MODELREG_URL"] = None

    assert (bootstrap(modelreg, lambdas, "--login").exit_code, lambdas.invoked) == (2, [])


def test_a_token_of_another_registry_is_printed_but_not_stored(modelreg, lambdas, door):
    door.admin = Bootstrap()

    ran = bootstrap(modelreg, lambdas, "--login")

    assert (ran.exit_code, modelreg.config.exists()) == (6, False)
    assert is_whole(ran.stdout.strip())


def found(kind: Kind = Kind.STRAY_CLAIM, *, repaired: bool = False, safe: bool = True) -> Finding:
    return Finding(kind=kind, subject="MODEL#1", what="A claim\tof nobody.", repaired=repaired, safe=safe)


def rounds(*steps: tuple[Finding, ...]) -> Callable[[dict[str, Any]], Any]:
    """A doctor whose steps find these; the last one ends it. Asked to, it repairs what is safe."""

    def answer(asked: dict[str, Any]) -> Any:
        order = Order.model_validate(asked)
        at = int(order.after or 0)
        findings = tuple(
            one.model_copy(update={"repaired": True}) if order.repair and one.safe else one for one in steps[at]
        )
        after = str(at + 1) if at + 1 < len(steps) else None
        return Report(findings=findings, counts={"models": 1000, "events": 2}, after=after).model_dump(mode="json")

    return answer


def test_a_doctor_that_finds_nothing_is_content(modelreg, lambdas):
    lambdas.functions[DOCTOR] = rounds((), (), ())

    ran = doctor(modelreg, lambdas)

    assert (ran.exit_code, ran.stdout) == (0, "")
    assert ran.stderr.splitlines() == [
        "so far: models 1,000, events 2",
        "so far: models 2,000, events 4",
        "nothing is wrong; looked at: models 3,000, events 6",
    ]
    assert [payload for _, payload in lambdas.invoked] == [
        {"repair": False, "after": None},
        {"repair": False, "after": "1"},
        {"repair": False, "after": "2"},
    ]


def test_findings_are_printed_and_remain(modelreg, lambdas):
    lambdas.functions[DOCTOR] = rounds((found(),), (), (found(Kind.CHAIN_BROKEN, safe=False),))

    ran = doctor(modelreg, lambdas, "--quiet")

    assert (ran.exit_code, ran.stderr) == (exits.NO, "")
    assert [line.split("\t") for line in ran.lines] == [
        ["stray_claim", "MODEL#1", "A claim\\tof nobody.", "repairable"],
        ["chain_broken", "MODEL#1", "A claim\\tof nobody.", "not repairable"],
    ]


def test_what_is_left_and_what_could_be_mended_is_summed_up(modelreg, lambdas):
    lambdas.functions[DOCTOR] = rounds((found(), found(Kind.CHAIN_BROKEN, safe=False)))

    told = doctor(modelreg, lambdas).stderr

    assert told == "0 repaired, 2 left; --repair would mend 1; looked at: models 1,000, events 2\n"


def test_a_repair_leaves_only_what_is_not_safe(modelreg, lambdas):
    lambdas.functions[DOCTOR] = rounds((found(),), (found(),))

    mended = doctor(modelreg, lambdas, "--repair")
    lambdas.functions[DOCTOR] = rounds((found(),), (found(Kind.CHAIN_BROKEN, safe=False),))
    partly = doctor(modelreg, lambdas, "--repair")

    assert (mended.exit_code, partly.exit_code) == (0, exits.NO)
    assert "2 repaired, 0 left;" in mended.stderr
    assert "1 repaired, 1 left;" in partly.stderr
    assert all(payload["repair"] for _, payload in lambdas.invoked)


def test_findings_in_json_are_an_array(modelreg, lambdas):
    lambdas.functions[DOCTOR] = rounds((found(),), (found(Kind.CHAIN_BROKEN, safe=False),))

    assert [one["kind"] for one in doctor(modelreg, lambdas, "--json").document] == ["stray_claim", "chain_broken"]


def test_a_terminal_gets_findings_as_sentences(modelreg, lambdas):
    modelreg.show_terminal()
    lambdas.functions[DOCTOR] = rounds((found(),))

    assert doctor(modelreg, lambdas).stdout == "stray_claim: MODEL#1: A claim\\tof nobody. (repairable)\n"


def test_findings_appear_before_the_doctor_has_finished(modelreg, lambdas):
    lambdas.functions[DOCTOR] = rounds((found(),), (found(),))
    lambdas.replies = [None, failed("MemoryError", "")]

    ran = doctor(modelreg, lambdas, "--json")

    assert (ran.exit_code, ran.stdout.strip()[-1]) == (1, "}")
    assert "MemoryError" in ran.stderr


def test_a_doctor_that_does_not_get_on_is_stopped(modelreg, lambdas):
    lambdas.functions[DOCTOR] = lambda _: {"findings": [], "counts": {}, "after": "here"}

    ran = doctor(modelreg, lambdas)

    assert (ran.exit_code, len(lambdas.invoked)) == (7, 2)
    assert "again and again" in ran.stderr


def test_a_doctor_nobody_listens_to_stops_and_is_not_content(modelreg, lambdas, monkeypatch):
    def unread(_self: object, items: Iterator[Any]) -> None:
        next(items)
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("modelreg.output.Output.lines", unread)
    lambdas.functions[DOCTOR] = rounds((found(),), (found(),))

    ran = doctor(modelreg, lambdas, "--repair")

    assert (ran.exit_code, len(lambdas.invoked)) == (8, 1)


def test_the_doctor_is_found_by_the_stack(modelreg, lambdas):
    lambdas.functions[DOCTOR] = rounds(())

    assert modelreg("doctor", "--stack", STACK, "--endpoint-url", lambdas.url).exit_code == 0


def test_help_waits_for_no_aws_sdk():
    loaded = 'import sys, modelreg.cli; print(sorted({"boto3", "botocore", "httpx", "pydantic"} & set(sys.modules)))'

    ran = subprocess.run(
        [sys.executable, "-c", loaded],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": str(Path(cli.__file__).parent.parent)},
    )  # fmt: skip

    assert ran.stdout == "[]\n"


def test_an_actor_of_the_service_is_what_an_asker_of_the_client_is():
    assert set(Asker.model_fields) == set(Actor.model_fields) - {"access"}


def test_a_finding_of_the_service_is_one_of_the_client():
    assert (set(Told.model_fields), set(Examined.model_fields)) == (set(Finding.model_fields), set(Report.model_fields))
