"""How commands end and what a transfer looks like: exit codes, errors, pipes, progress, start-up."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import modelreg as sdk
import pytest
from modelreg import RegistryError, cli, exits
from modelreg.output import Output, as_text, safe, size_text
from modelreg.transfer_display import Bar, Display, Lines, duration_text, transfer_display

from tests.client.command_stage import Stage, model, stage

CLIENT = Path(cli.__file__).parent.parent


@pytest.fixture
def modelreg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return stage(tmp_path, monkeypatch)


class Seconds:
    """A clock that is moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def output_to(stream: io.StringIO) -> Output:
    output = Output()
    output.talk = stream
    return output


def run(*arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """`modelreg` in a process of its own; code runs after it, also when it ended with an exit code."""
    program = f"import sys\nfrom modelreg.cli import main\ntry:\n    main()\nfinally:\n    {code or 'pass'}"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CLIENT), "HOME": "/nonexistent", **environment},
    )


ERRORS = [
    kind
    for kind in (getattr(sdk, name) for name in sdk.__all__)
    if isinstance(kind, type) and issubclass(kind, RegistryError)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_of_the_library_has_one_exit_code(kind):
    rows = [row.code for row in exits.EXITS if issubclass(kind, row.errors)]

    assert len(rows) == (0 if kind is RegistryError else 1)


@pytest.mark.parametrize("kind", ERRORS)
def test_no_hint_speaks_of_python(kind):
    hint = exits.report_of(kind("It does not work.")).hint

    assert hint.endswith(".")
    assert not any(word in hint for word in ("Registry(", "list()", "search()", "abort_upload"))


def test_a_hint_that_was_written_for_the_error_wins():
    assert exits.report_of(sdk.NotFound("No.", hint="Look under the bed.")).hint == "Look under the bed."


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (sdk.NotFound("x"), 3),
        (sdk.Ambiguous("x"), 3),
        (sdk.Conflict("x"), 4),
        (sdk.InvalidInput("x"), 5),
        (sdk.Unauthorized("x"), 6),
        (sdk.Throttled("x"), 7),
        (sdk.SourceChanged("x"), 8),
        (OSError(errno.ENOSPC, "No space left on device", "/models"), 8),
        (sdk.Corrupt("x"), 9),
        (RegistryError("x"), 1),
        (ZeroDivisionError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_ends_with_a_sentence_and_its_exit_code(modelreg, error, exit_code):
    modelreg.fail("list", error)

    ran = modelreg("ls", "--quiet")

    assert (ran.exit_code, ran.stdout) == (exit_code, "")
    assert ran.stderr.startswith("modelreg: ")
    assert "Traceback" not in ran.stderr


def test_with_json_an_error_is_json_on_standard_error(modelreg):
    modelreg.fail("list", sdk.NotFound("There is none.", hint="Look elsewhere."))

    ran = modelreg("ls", "--json")

    assert ran.stdout == ""
    assert json.loads(ran.stderr) == {
        "error": {"code": "not_found", "message": "There is none.", "hint": "Look elsewhere."}
    }


def test_an_error_of_usage_is_json_too(modelreg):
    ran = modelreg("ls", "--json", "--nonsense")

    assert (ran.exit_code, json.loads(ran.stderr)["error"]["code"]) == (2, "usage")


def test_what_the_server_says_in_an_error_never_reaches_a_terminal_raw(modelreg):
    modelreg.fail("list", sdk.NotFound("\x1b[2J\x9b\u202e"))

    assert not set(modelreg("ls").stderr) & set("\x1b\x9b\u202e")


def test_a_traceback_is_shown_on_demand_only(modelreg):
    modelreg.fail("list", ZeroDivisionError("x"))
    modelreg.environment["MODELREG_DEBUG"] = "1"

    assert "Traceback" in modelreg("ls").stderr


def test_a_reader_who_has_enough_is_no_error(modelreg, monkeypatch):
    modelreg.fail("list", BrokenPipeError(errno.EPIPE, "Broken pipe"))

    ran = modelreg("ls")

    assert (ran.exit_code, ran.stderr) == (0, "")


def test_a_closed_pipe_is_silent_to_the_end_of_the_process():
    reading, writing = os.pipe()
    os.close(reading)
    program = "from modelreg.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, "config", "path"],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
        env={"PYTHONPATH": str(CLIENT), "HOME": "/nonexistent"},
    )  # fmt: skip
    os.close(writing)

    assert (ran.returncode, ran.stderr) == (0, "")


def test_help_and_completion_wait_for_no_library():
    loaded = 'print(sorted({"httpx", "pydantic", "rich"} & set(sys.modules)), file=sys.stderr)'

    ran = run("--help", code=loaded)

    assert (ran.returncode, ran.stderr) == (0, "[]\n")
    assert "Exit codes:" in ran.stdout


def test_without_arguments_there_is_help(modelreg):
    ran = modelreg()

    assert (ran.exit_code, ran.stderr) == (0, "")
    assert ran.stdout.startswith("Usage: modelreg")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_are_completed_in_every_shell(shell):
    words = {"_TYPER_COMPLETE_ARGS": "modelreg pu", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    words |= {"COMP_WORDS": "modelreg pu", "COMP_CWORD": "1"}

    ran = run(_MODELREG_COMPLETE=f"complete_{shell}", **words)

    assert ran.returncode == 0
    assert {"push", "pull"} <= set(ran.stdout.replace(":", " ").replace('"', " ").split())
    assert "show" not in ran.stdout.split()


def test_the_version_is_shown(modelreg):
    assert modelreg("--version").stdout == f"modelreg {sdk.__version__}\n"


def test_lines_tell_the_start_every_tenth_and_the_end():
    stream, clock = io.StringIO(), Seconds()
    lines = Lines(output_to(stream), clock)

    lines.start("model.zip", 1_000_000, 0)
    for _ in range(10):
        clock.now += 2
        lines.advance(100_000)
    lines.finish()

    told = stream.getvalue().splitlines()
    assert told[0] == "model.zip: 1.0 MB"
    assert told[1] == "model.zip: 10 %, 100.0 kB of 1.0 MB, 50.0 kB/s, 18 s left"
    assert told[-1] == "model.zip: done, 1.0 MB in 20 s, 50.0 kB/s"
    assert len(told) == 11


def test_a_slow_transfer_is_told_of_every_ten_seconds():
    stream, clock = io.StringIO(), Seconds()
    lines = Lines(output_to(stream), clock)

    lines.start("model.zip", 1_000_000, 0)
    for _ in range(30):
        clock.now += 1
        lines.advance(10)

    assert len(stream.getvalue().splitlines()) == 1 + 3


def test_a_fast_transfer_has_two_lines():
    stream = io.StringIO()
    lines = Lines(output_to(stream), Seconds())

    lines.start("model.zip", 100, 0)
    for _ in range(10):
        lines.advance(10)
    lines.finish()

    assert stream.getvalue().splitlines() == ["model.zip: 100 B", "model.zip: done, 100 B in 0 s"]


def test_the_rate_counts_only_what_this_run_moved():
    stream, clock = io.StringIO(), Seconds()
    lines = Lines(output_to(stream), clock)

    lines.start("model.zip", 1000, 900)
    clock.now += 10
    lines.advance(50)
    lines.finish()

    assert stream.getvalue().splitlines() == [
        "model.zip: 1.0 kB, 900 B of it there already",
        "model.zip: 95 %, 950 B of 1.0 kB, 5 B/s, 10 s left",
        "model.zip: stopped at 95 %, 950 B of 1.0 kB, 5 B/s, 10 s left",
    ]


def test_a_terminal_gets_a_bar_whose_label_is_safe(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    bar = transfer_display(output_to(stream))

    bar.start("[red]model\x9b.zip", 1000, 100)
    bar.advance(900)
    bar.note("again\x9b")
    bar.finish()

    assert isinstance(bar, Bar)
    assert "[red]model\\x9b.zip" in stream.getvalue()
    assert "again\\x9b" in stream.getvalue()
    assert "100%" in stream.getvalue()


def test_quiet_shows_no_progress_and_the_rest_fits_the_stream():
    quiet = Output(quiet=True)
    quiet.talk = Terminal()

    assert type(transfer_display(quiet)) is Display
    assert isinstance(transfer_display(output_to(io.StringIO())), Lines)


@pytest.mark.parametrize(("display"), [Display, lambda: Lines(output_to(io.StringIO()), Seconds())])
def test_a_display_that_never_began_can_be_finished(display):
    shown = display()
    shown.note("a note")
    shown.finish()

    assert not shown.begun


def test_a_display_outlives_its_stream():
    stream = io.StringIO()
    lines = Lines(output_to(stream), Seconds())
    stream.close()

    lines.start("model.zip", 10, 0)
    lines.finish()


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_950, "1.0 MB"), (5e15, "5000.0 TB")]
)
def test_sizes_are_for_people(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")])
def test_durations_are_for_people(seconds, text):
    assert duration_text(seconds) == text


def test_values_are_written_as_people_would():
    assert as_text(["a", "b"]) == "a, b"
    assert as_text([{"name": "é"}]) == '[{"name": "é"}]'
    assert (as_text(None), as_text(0.5), as_text([])) == ("", "0.5", "")


def test_only_what_cannot_be_printed_is_escaped():
    assert safe("Größe 检测 🐈") == "Größe 检测 🐈"
    assert safe("a\tb\udc80") == "a\\tb\\udc80"


def test_many_rows_keep_the_columns_of_the_first(modelreg, monkeypatch):
    monkeypatch.setattr("modelreg.output.BATCH_ROWS", 2)
    modelreg.show_terminal()
    modelreg.environment.update(COLUMNS="160", NO_COLOR="1")
    for number in range(1, 6):
        modelreg.registry.add(model(number))

    lines = modelreg("ls").lines

    assert [line.index("detector") for line in lines[1:]] == [lines[1].index("detector")] * 5
    assert sum("NAME" in line for line in lines) == 1
