"""A simulated Geti, a model in it, and a client that asks."""

from collections.abc import Iterator

import pytest

from tests.simulators.asking_geti import Client
from tests.simulators.geti import GetiServer, Model, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def model(world: World) -> Model:
    return world.project().group().train(active=True)


@pytest.fixture
def geti(world: World) -> Iterator[GetiServer]:
    with GetiServer(world) as server:
        yield server


@pytest.fixture
def client(geti: GetiServer) -> Iterator[Client]:
    client = Client(geti)
    yield client
    client.pool.clear()
