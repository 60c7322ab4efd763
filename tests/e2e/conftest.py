"""The shared stack of tests/stack.py as clients on AWS would meet it."""

from collections.abc import Iterator

import pytest

from tests.e2e.strict_stack import Api, strictly_served
from tests.stack import Stack


@pytest.fixture(scope="session")
def api(stack: Stack) -> Iterator[Api]:
    """The shared stack as clients on AWS would meet it: behind the two strict proxies."""
    with strictly_served(stack) as served:
        yield served
