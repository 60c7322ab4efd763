"""From a request to what answers it: routes by name, method and pattern."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from tests.simulators.geti.answers import Answer
from tests.simulators.geti.faults import Asked

if TYPE_CHECKING:
    from tests.simulators.geti.server import GetiServer

View = Callable[["GetiServer", Asked], Answer]


class Route(NamedTuple):
    """`name` is what tests call it. `profiles`: those that have it; none named: all of its major version."""

    name: str
    method: str
    pattern: re.Pattern[str]
    view: View
    profiles: tuple[str, ...] = ()


def route(name: str, method: str, path: str, view: View, *profiles: str) -> Route:
    """A path with its parameters in braces."""
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path.replace(".", r"\."))
    return Route(name, method, re.compile(pattern), view, profiles)


def find(routes: Sequence[Route], profile: str, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route of a request and its parameters."""
    for one in routes:
        found = one.pattern.fullmatch(path)
        if found and one.method == method and (not one.profiles or profile in one.profiles):
            return one, {name: unquote(value) for name, value in found.groupdict().items()}
    return None


def noisy(content: Any) -> Any:
    """The same with fields that nobody knows, everywhere; always the same ones."""
    if isinstance(content, dict):
        known = {key: noisy(value) for key, value in content.items()}
        return {"aa_new_field": None, **known, "zz_new_field": {"of": ["a", 1, {"later": "version"}]}}
    return [noisy(value) for value in content] if isinstance(content, list) else content
