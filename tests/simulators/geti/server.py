"""The server: takes requests, notes them, asks the routes of its profile, and sends what they say, or worse."""

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from types import ModuleType, TracebackType
from typing import Any, Self

from tests.simulators.geti import routes2, routes3
from tests.simulators.geti.answers import Answer, Refusal, detail, json_answer
from tests.simulators.geti.certificates import Certificate
from tests.simulators.geti.deployments import Deployment, Legacy
from tests.simulators.geti.faults import Asked, Fault, Faults, fault_of
from tests.simulators.geti.listening import Listener
from tests.simulators.geti.routing import View, find, noisy
from tests.simulators.geti.tokens import VALID_TOKEN
from tests.simulators.geti.world import World
from tests.simulators.geti.zips import Package

VERSIONS = {"2.10": "2.10.0", "2.13": "2.13.1", "3": "3.2.0"}
ROUTES: dict[int, ModuleType] = {2: routes2, 3: routes3}


@dataclasses.dataclass(eq=False)
class Download:
    """A package on its way out. `sent` counts its bytes; it is complete if the client could get all of them."""

    route: str
    ids: frozenset[str]
    file_name: str
    size: int
    sent: int = 0

    @property
    def is_complete(self) -> bool:
        return self.sent == self.size


class GetiServer:
    """A Geti server of a world, while its context lasts. Everything public may be set at any time.

    token: the only one that is valid. is_token_expired: it is not any more. noise: whether answers have fields that
    nobody knows. is_chunked: packages come without a Content-Length. missing_routes: names of routes that this version
    does not have. organization_form: `single` or `list`. on_answer: called with each request once it is answered.
    legacy: the life of code deployments. Of Geti 3: pipeline_form, `model` or `model_id`; is_running, whether the
    pipelines run; busy_status, what a second download at the same time gets (None: it is served).
    """

    def __init__(
        self,
        world: World,
        profile: str | None = None,
        *,
        token: str = VALID_TOKEN,
        tls: Certificate | None = None,
        port: int = 0,
        noise: bool = True,
        on_answer: Callable[[Asked], object] | None = None,
    ) -> None:
        self.world = world
        self.profile = profile or world.profile
        self.token = token
        self.is_token_expired = False
        self.noise = noise
        self.is_chunked = False
        self.organization_form = "single"
        self.legacy = Legacy()
        self.pipeline_form = "model"
        self.is_running = True
        self.busy_status: int | None = None
        self.requests: list[Asked] = []
        self.downloads: list[Download] = []
        self.most_downloads_at_once = 0
        self.deployments: dict[str, Deployment] = {}
        self.violations: list[str] = []
        self.missing_routes: set[str] = set()
        self._faults = Faults()
        self._version: str | None = None
        self._lock = threading.Lock()
        self._downloads_now: set[Download] = set()
        self._on_answer = on_answer
        self._listener = Listener(self, tls, port)

    @property
    def profile(self) -> str:
        return self._profile

    @profile.setter
    def profile(self, profile: str) -> None:
        if profile not in VERSIONS:
            raise ValueError(f"profile is one of {', '.join(VERSIONS)}")
        if int(profile[0]) != self.world.major:
            raise ValueError(f"The ids of this world are of Geti {self.world.major}: make it World({profile!r})")
        self._profile = profile

    @property
    def version(self) -> str:
        """What it says of itself; that of its profile unless it was set."""
        return self._version or VERSIONS[self.profile]

    @version.setter
    def version(self, version: str | None) -> None:
        self._version = version

    @property
    def url(self) -> str:
        return self._listener.url

    @property
    def counts(self) -> Counter[str]:
        """Requests by route."""
        return Counter(asked.route for asked in list(self.requests))

    def forget(self) -> None:
        """All requests and downloads so far."""
        self.requests.clear()
        self.downloads.clear()
        self.most_downloads_at_once = 0

    def fail(
        self,
        route: str | None = None,
        how: int | str | None = None,
        *,
        status: int | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
        project: str | None = None,
        model: str | None = None,
        after: int = 0,
        times: int | None = None,
        after_bytes: int = 0,
        seconds: float | None = None,
    ) -> Fault:
        """Have requests fail: those of a route, about a project or a model (any id in path or body), or all.

        how: a status, the name of an answer (answers.ANSWERS), or a cut: `drop` closes instead of answering, `late`
        waits `seconds` before it answers; in the body, after `after_bytes`, `reset` resets the connection, `short`
        (or `truncated`) closes it, `stall` says no more for `seconds` or until the end, `slow` waits `seconds`
        between all further kilobytes. status, body (JSON, or bytes) and headers replace those of the answer.
        after: so many requests pass before. times: then so many fail; None: all, until `heal`.
        """
        return self._faults.add(
            fault_of(
                self.world.major,
                route,
                how,
                status=status,
                body=body,
                headers=headers,
                method=method,
                project=project,
                model=model,
                after=after,
                times=times,
                after_bytes=after_bytes,
                seconds=seconds,
            )
        )

    def on(self, route: str, action: Callable[[], object], *, after: int = 0, times: int | None = 1) -> Fault:
        """Have something done just before a request of this route is answered; then it is answered as usual."""
        return self._faults.add(Fault(route, action=action, after=after, times=times))

    def heal(self) -> None:
        """Take back all faults and actions."""
        self._faults.clear()

    def show(self, content: Any) -> Answer:
        return json_answer(noisy(content) if self.noise else content)

    # What the listener asks.

    def answer(self, asked: Asked, token: str | None) -> tuple[Answer, Fault | None]:
        """What to send, and the cut to make in it."""
        routes = ROUTES[self.world.major]
        view: View = routes.unknown
        found = find(routes.ROUTES, self.profile, asked.method, asked.path)
        if found and found[0].name not in self.missing_routes:
            view, asked.route, asked.params = found[0].view, found[0].name, found[1]
        with self._lock:
            self.requests.append(asked)
        actions, fault = self._faults.take(asked)
        for action in actions:
            action()
        if fault and fault.answer:
            return fault.answer, None
        try:
            with self.world.lock:
                routes.authorize(self, asked, token)
                answer = view(self, asked)
        except Refusal as refusal:
            answer = refusal.answer
        return answer, fault

    def answered(self, asked: Asked) -> None:
        """The answer is out, or broken off."""
        if self._on_answer:
            self._on_answer(asked)

    def begin_download(self, asked: Asked, package: Package) -> Download | Answer:
        """The download to count the bytes of; or what to answer instead, if one must wait for another."""
        with self._lock:
            if self._downloads_now and self.busy_status:
                return detail("Another download is in progress.", self.busy_status)
            download = Download(asked.route, frozenset(asked.ids), package.file_name, package.size)
            self.downloads.append(download)
            self._downloads_now.add(download)
            self.most_downloads_at_once = max(self.most_downloads_at_once, len(self._downloads_now))
            return download

    def end_download(self, download: Download) -> None:
        """Of those at this time."""
        with self._lock:
            self._downloads_now.discard(download)

    def __enter__(self) -> Self:
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._listener.stop()
        if kind is None:
            assert not self.violations, "; ".join(self.violations)
            assert not self._listener.errors, self._listener.errors
