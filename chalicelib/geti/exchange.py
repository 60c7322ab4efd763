"""What is asked of Geti, within which limits, and what is left to read of an answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from pydantic import JsonValue


@dataclass(frozen=True)
class Limits:
    """How long may be waited: to connect, for the next bytes, for the first ones of a package, for a whole call."""

    connect_seconds: float = 5
    read_seconds: float = 20
    package_read_seconds: float = 120  # Geti makes the package meanwhile
    call_seconds: float = 60
    package_seconds: float = 600
    json_bytes: int = 8 * 1024**2  # which take thirty times as much once they are read


USUAL = Limits()


@dataclass(frozen=True)
class Request:
    """What is asked. A read changes nothing, so it may be sent again. Its path is made of constants and checked ids."""

    method: str
    path: str
    query: Mapping[str, str | int] | None = None
    body: JsonValue = None
    is_read: bool = True
    may_redirect: bool = False

    @property
    def target(self) -> str:
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Stream:
    """The body of an answer, once: chunks of 1 MiB. They raise GetiBusy if it breaks off."""

    status: int
    file_name: str | None
    size: int | None
    chunks: Iterator[bytes]
