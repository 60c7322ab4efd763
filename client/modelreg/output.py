"""What people and programs see: data on standard output, talk on standard error.

Data is a table on a terminal, tab-separated lines elsewhere, JSON where asked for; rows appear as they arrive. What
the server sends never reaches a terminal raw: every character that is not printable is shown by its escape, which
also keeps a tab or a line end in a value from looking like a new column or row.
"""

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from modelreg.tokens import without_secrets

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.table import Table

BATCH_ROWS = 200  # so many rows decide how wide the columns of a table are; later ones follow suit
GAP, MIN_WIDTH = 2, 8  # between columns; no column gives way further
PROGRAM = "modelreg"
UNITS = ("B", "kB", "MB", "GB", "TB")


class Column(NamedTuple):
    """A column of a list: its heading, what a program gets, and what a person gets where that differs.

    may_go: a terminal that is too narrow does without it.
    """

    heading: str
    value: Callable[[Any], Any]
    shown: Callable[[Any], str] | None = None
    may_go: bool = False

    def cell(self, item: Any) -> str:
        """As a person sees it."""
        return safe(self.shown(item) if self.shown else as_text(self.value(item)))


class Output:
    """The two streams of one command, and how the caller wants them."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        # Looked up now, not at import: tests and callers replace the streams.
        self.data, self.talk = sys.stdout, sys.stderr

    def say(self, text: str) -> None:
        """A line for people, unless they want quiet."""
        if not self.quiet:
            print(safe(text), file=self.talk, flush=True)

    def ask_about(self, text: str) -> None:
        """A line that a question is about, quiet or not."""
        print(safe(text), file=self.talk, flush=True)

    def fail(self, code: str, message: str, hint: str) -> None:
        """The sentence and the hint on standard error, quiet or not; the secret of a token is in neither."""
        message, hint = without_secrets(message), without_secrets(hint)
        if self.as_json:
            print(json_text({"error": {"code": code, "message": message, "hint": hint}}), file=self.talk, flush=True)
            return
        first, *more = message.splitlines() or [code]
        lines = [f"{PROGRAM}: {first}", *more, *([f"hint: {hint}"] if hint else [])]
        print("\n".join(map(safe, lines)), file=self.talk, flush=True)

    def line(self, text: str, document: Mapping[str, Any]) -> None:
        """One datum: a line, or the document as JSON."""
        print(json_text(document) if self.as_json else safe(text), file=self.data, flush=True)

    def hand_over(self, text: str, document: Mapping[str, Any]) -> None:
        """One datum that cannot be had again. Raises OSError where `line` would not mind: if nobody gets it."""
        if self.data is None:  # so Python has it where standard output is closed
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.line(text, document)

    def document(self, document: Mapping[str, Any]) -> None:
        """What only a program wants to read back."""
        if self.as_json:
            print(json_text(document, indent=2), file=self.data, flush=True)

    def pair(self, name: str, value: str, for_people: str) -> None:
        """A name and what it stands for: for a program, or in words."""
        shown = f"{name}: {safe(for_people)}" if is_terminal(self.data) else f"{name}\t{value}"
        print(shown, file=self.data, flush=True)

    def lines(self, items: Iterable[tuple[Sequence[object], Mapping[str, Any]]]) -> None:
        """Data as they arrive: lines of cells, or an array of the documents."""
        if self.as_json:
            self._json_rows(document for _, document in items)
            return
        for cells, _ in items:
            print("\t".join(safe(str(cell)) for cell in cells), file=self.data, flush=True)

    def fields(self, values: Mapping[str, Any]) -> None:
        """One thing with its fields: a line each, or one JSON document. A terminal is spared those without value."""
        if self.as_json:
            print(json_text(values, indent=2), file=self.data, flush=True)
            return
        if not is_terminal(self.data):
            for name, value in values.items():
                print(f"{safe(name)}\t{safe(as_text(value))}", file=self.data)
            return
        width = max((len(name) for name in values), default=0)
        for name, value in values.items():
            if value not in (None, [], {}):
                print(f"{safe(name):<{width}}  {safe(as_text(value))}", file=self.data)

    def rows(self, columns: Sequence[Column], items: "Iterable[BaseModel]") -> int:
        """A list, row by row as it arrives; how many there were. Nothing is printed before the first item is there."""
        if self.as_json:
            return self._json_rows(item.model_dump(mode="json") for item in items)
        if is_terminal(self.data):
            return self._table_rows(columns, items)
        count = 0
        for count, item in enumerate(items, 1):  # noqa: B007 (the count is the answer)
            print("\t".join(safe(as_text(column.value(item))) for column in columns), file=self.data, flush=True)
        return count

    def _json_rows(self, documents: Iterable[Mapping[str, Any]]) -> int:
        count = 0
        for count, document in enumerate(documents, 1):
            start = "[\n" if count == 1 else ",\n"
            print(start + json_text(document), end="", file=self.data, flush=True)
        print("\n]" if count else "[]", file=self.data, flush=True)
        return count

    def _table_rows(self, columns: Sequence[Column], items: "Iterable[BaseModel]") -> int:
        """Tables of BATCH_ROWS rows below each other, as wide as the first one: the rest may be hours away."""
        arriving = iter(items)
        batch = list(islice(arriving, BATCH_ROWS))
        if not batch:
            return 0
        console = self._console()
        columns, widths = _layout(columns, batch, console.width)
        count = 0
        while batch:
            rows = [[column.cell(item) for column in columns] for item in batch]
            headings = [column.heading for column in columns]
            console.print(_table(headings, widths, rows, show_header=count == 0))
            count += len(batch)
            batch = list(islice(arriving, BATCH_ROWS))
        return count

    def _console(self) -> "Console":
        from rich.console import Console

        return Console(file=self.data, markup=False, highlight=False, emoji=False)


def _layout(columns: Sequence[Column], items: "Sequence[BaseModel]", room: int) -> tuple[list[Column], list[int]]:
    """The columns that have room, and how wide each is; the widest give way until all fit."""
    from rich.cells import cell_len

    kept = [
        (column, max(cell_len(column.heading), *(cell_len(column.cell(item)) for item in items))) for column in columns
    ]
    while _width(kept) > room and any(column.may_go for column, _ in kept):
        kept.remove(next(pair for pair in reversed(kept) if pair[0].may_go))
    widths = [width for _, width in kept]
    while sum(widths) + GAP * (len(widths) - 1) > room and max(widths) > MIN_WIDTH:
        widths[widths.index(max(widths))] -= 1
    return [column for column, _ in kept], widths


def _width(kept: Sequence[tuple[Column, int]]) -> int:
    return sum(width for _, width in kept) + GAP * (len(kept) - 1)


def _table(
    headings: Sequence[str], widths: Sequence[int], rows: Iterable[Sequence[str]], *, show_header: bool
) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=show_header, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for heading, width in zip(headings, widths, strict=True):
        # Folded, not cut off: what is shown can be copied.
        table.add_column(heading, width=width, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def drop_output() -> None:
    """What is still to be written goes nowhere, so that Python does not complain about it at its end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person watches the stream, with a terminal that can more than print lines."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def safe(text: str) -> str:
    """The text with every character that is not printable shown by its escape, such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def as_text(value: Any) -> str:
    """A value as a person would write it: lists by commas, objects as JSON, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def json_text(document: Any, indent: int | None = None) -> str:
    """JSON in ASCII: it survives any encoding, and no terminal obeys what is in it."""
    return json.dumps(document, indent=indent).replace("\x7f", "\\u007f")


def size_text(size_bytes: float | None) -> str:
    """A size for people, in powers of 1000 as disks are sold: `64 B`, `1.2 GB`."""
    if size_bytes is None:
        return ""
    size = float(size_bytes)
    for unit in UNITS:
        if size < 999.95 or unit == UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
