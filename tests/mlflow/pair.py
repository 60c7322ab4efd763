"""MLflow's own server and ours, asked the same, with answers that can be compared.

A time is shown as the number of the request during which it was. A search with pages is shown as a whole: where a page
ends is up to each server, and its token too.
"""

import json
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from tests import mlflow_calls

API = "/api/2.0/mlflow/"
TIMES = re.compile(r"(creation|last_updated)_timestamp")
TOKEN = "next_page_token"
SETS = ("tags", "latest_versions", "aliases")  # their order says nothing
UNSET = ("description", "run_id", "run_link")  # an empty one and none are the same to clients
NOT_COMPARED = ("sqlstate", "error_class")  # what errors say besides, for Databricks; no client of MLflow's reads it
OK = 200
MAX_PAGES = 50
TICK_SECONDS = 0.002  # no two requests fall into one millisecond
Json = dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """One request: `stated` is the query of a GET and the body of all else. `raw` is a body that is sent as it is.

    `is_paged` asks for all pages, one after another.
    """

    method: str
    path: str
    stated: Mapping[str, Any] = field(default_factory=dict)
    raw: str | None = None
    is_paged: bool = False

    def __str__(self) -> str:
        said = self.raw if self.raw is not None else json.dumps(dict(self.stated), ensure_ascii=False)
        return f"{self.method} {self.path} {said}"[:400]


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any

    @property
    def code(self) -> str:
        return str(self.body.get("error_code", "")) if isinstance(self.body, dict) else ""

    @property
    def message(self) -> str:
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else ""

    def saying(self, message: str) -> "Answer":
        return Answer(self.status, {**self.body, "message": message})


Send = Callable[[str, str, Mapping[str, Any], str | None], tuple[int, Any]]


class Side:
    """One of the two."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._starts: list[int] = []

    def answer(self, ask: Ask) -> Answer:
        time.sleep(TICK_SECONDS)
        self._starts.append(int(time.time() * 1000))
        status, body = self._all_pages(ask) if ask.is_paged else self._sent(ask, ask.stated)
        shown = self._shown(body)
        if ask.path.endswith("/get-latest-versions") and status == OK:
            shown.get("model_versions", []).sort(key=json.dumps)  # in no certain order there
        return Answer(status, shown)

    def _sent(self, ask: Ask, stated: Mapping[str, Any]) -> tuple[int, Any]:
        return self._send(ask.method, API + ask.path, stated, ask.raw)

    def _all_pages(self, ask: Ask) -> tuple[int, Any]:
        """What is on them together, none of which has more than was asked for."""
        found: Json = {}
        stated = dict(ask.stated)
        for _ in range(MAX_PAGES):
            status, body = self._sent(ask, stated)
            if status != OK:
                return status, body
            token = body.pop(TOKEN, None)
            for name, part in body.items():
                assert len(part) <= stated["max_results"]
                found[name] = found.get(name, []) + part
            if token is None:
                return OK, found
            stated["page_token"] = token
        raise AssertionError(f"There is no end to the pages of {ask}")

    def _shown(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            said = {name: part for name, part in value.items() if part != "" or name not in UNSET}
            return {name: self._shown(part, name) for name, part in said.items() if name not in NOT_COMPARED}
        if isinstance(value, list):
            shown = [self._shown(part) for part in value]
            return sorted(shown, key=json.dumps) if key in SETS else shown
        if TIMES.fullmatch(key):
            return bisect_right(self._starts, value)
        if key == TOKEN:
            return "there is more"
        return value


def theirs(url: str, session: requests.Session) -> Side:
    def send(method: str, path: str, stated: Mapping[str, Any], raw: str | None) -> tuple[int, Any]:
        if method == "GET" and raw is None:
            answer = session.get(url + path, params=dict(stated), timeout=60)
        else:
            body = (json.dumps(dict(stated)) if raw is None else raw).encode()
            answer = session.request(
                method, url + path, data=body, headers={"content-type": "application/json"}, timeout=60
            )
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.status_code, answer.json() if is_json else answer.text

    return Side(send)


def ours() -> Side:
    def send(method: str, path: str, stated: Mapping[str, Any], raw: str | None) -> tuple[int, Any]:
        if method == "GET" and raw is None:
            answer = mlflow_calls.call(method, path, **stated)
        else:
            answer = mlflow_calls.call(method, path, dict(stated) if raw is None else raw)
        return answer.status, answer.body

    return Side(send)
