"""The client of Geti against a simulated one, without waiting: time passes only when it sleeps.

time = Time()
transport = transport_to(geti, time)        # time.slept: how long it slept, each time
received(transport, package_of(geti))       # the size of the package of a new model
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chalicelib.geti.exchange import Request
from chalicelib.geti.transport import Tls, Transport
from tests.simulators.geti import GetiServer


@dataclass
class Time:
    """`step` passes at each look at it."""

    now: float = 1000.0
    step: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        self.now += self.step
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def at_most(_low: float, high: float) -> float:
    """Jitter that leaves nothing to chance: the longest wait."""
    return high


@dataclass
class Tokens:
    """What is read for a token: the first, and each time it is read anew the next, if there is one."""

    texts: list[str | None]
    renewals: int = 0

    def __call__(self, is_anew: bool) -> str | None:
        if is_anew:
            self.renewals += 1
            self.texts = self.texts[1:] or self.texts
        return self.texts[0]


def transport_to(
    geti: GetiServer,
    time: Time | None = None,
    token: Callable[[bool], str | None] | None = None,
    tls: Tls | None = None,
    url: str | None = None,
    **others: Any,
) -> Transport:
    time = time or Time()
    return Transport(
        url or geti.url,
        token or (lambda _: geti.token),
        tls or Tls(),
        monotonic=time.monotonic,
        sleep=time.sleep,
        jitter=at_most,
        **others,
    )


def package_of(geti: GetiServer, size: int | None = None) -> Request:
    """A request for a package of Geti 2 whose weights have this size."""
    project = geti.world.project()
    model = project.group().train()["FP16"]
    if size is not None:
        model.pack(size=size)
    path = f"/api/v1/organizations/{geti.world.organization_id}/workspaces/{geti.world.workspace_id}/projects/"
    body = {"package_type": "geti_sdk", "models": [{"model_id": model.id, "model_group_id": model.model.group.id}]}
    return Request("POST", f"{path}{project.id}/deployment_package:download", body=body)


def received(transport: Transport, request: Request) -> int:
    """How many bytes come."""
    with transport.stream(request) as stream:
        return sum(map(len, stream.chunks))
