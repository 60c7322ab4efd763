"""Faults on order: which requests, how many of them, and what happens instead of, or to, the answer."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.simulators.geti.answers import Answer, answer_of, with_headers

CUTS = ("drop", "late", "reset", "short", "stall", "slow")
ALIASES = {"truncated": "short"}


@dataclass(eq=False)
class Asked:
    """A request as it came. `headers` are in lower case, without the token; `ids` are all those in path and body."""

    method: str
    target: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    has_token: bool
    connection: int
    body: bytes = b""
    route: str = "unknown"
    params: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None  # of the answer; None: none was sent

    @property
    def json(self) -> Any:
        """The body; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def ids(self) -> set[str]:
        content = self.json
        models = content.get("models") if isinstance(content, dict) else None
        named = [one for one in models if isinstance(one, dict)] if isinstance(models, list) else []
        return set(self.params.values()) | {str(one.get("model_id")) for one in named}


@dataclass(eq=False)
class Fault:
    """What goes wrong. `hits` counts how often it did."""

    route: str | None = None
    method: str | None = None
    project: str | None = None
    model: str | None = None
    after: int = 0
    times: int | None = None
    answer: Answer | None = None
    cut: str | None = None
    after_bytes: int = 0
    seconds: float | None = None
    action: Callable[[], object] | None = None
    hits: int = 0
    passed: int = 0

    @property
    def is_over(self) -> bool:
        return self.times is not None and self.hits >= self.times

    def concerns(self, asked: Asked) -> bool:
        return (
            self.route in (None, asked.route)
            and self.method in (None, asked.method)
            and self.project in (None, asked.params.get("project"))
            and (self.model is None or self.model in asked.ids)
        )

    def strikes(self) -> bool:
        """Whether it does now, of the requests it concerns. Counts."""
        if self.is_over:
            return False
        if self.passed < self.after:
            self.passed += 1
            return False
        self.hits += 1
        return True


class Faults:
    """All that were ordered, the oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ordered: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._ordered.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._ordered.clear()

    def take(self, asked: Asked) -> tuple[list[Callable[[], object]], Fault | None]:
        """What is to be done before this request is answered, and the fault that strikes it."""
        actions: list[Callable[[], object]] = []
        with self._lock:
            for fault in self._ordered:
                if fault.concerns(asked) and fault.strikes():
                    if fault.action is None:
                        return actions, fault
                    actions.append(fault.action)
        return actions, None


def fault_of(
    major: int,
    route: str | None,
    how: int | str | None,
    *,
    status: int | None,
    body: Any,
    headers: Mapping[str, str] | None,
    **rest: Any,
) -> Fault:
    """The fault that `GetiServer.fail` describes."""
    how = ALIASES.get(how, how) if isinstance(how, str) else how
    if how in CUTS:
        return Fault(route, cut=str(how), **rest)
    if how is None and status is None and body is None:
        raise ValueError("What is to go wrong? Give a status, the name of an answer, a cut, or a body.")
    answer = answer_of(how if how is not None else status or 200, major)
    if status is not None:
        answer = replace(answer, status=status)
    if body is not None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = with_headers(replace(answer, body=content), {"Content-Type": "application/json"})
    return Fault(route, answer=with_headers(answer, dict(headers or {})), **rest)
