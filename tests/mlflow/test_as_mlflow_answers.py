"""Whatever MLflow's own server is asked, ours answers the same: codes, messages and results.

What differs is in differences.py, with the reason; nothing else may.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest
import requests

from tests.mlflow.differences import DIFFERENCES, Difference, difference
from tests.mlflow.edges import EDGES
from tests.mlflow.pair import API, Ask, Side, ours, theirs
from tests.mlflow.stories import Story
from tests.surfaces.conftest import Service

SEEDS = range(4)
REQUESTS_A_STORY = 100
SHOWN = 1_000  # characters of an answer
PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"  # no other search finds them


class Pair:
    """Both servers; `known` are the differences that were seen."""

    def __init__(self, theirs: Side, ours: Side, aside: Executor) -> None:
        self._theirs, self._ours = theirs, ours
        self._aside = aside
        self.known: set[Difference] = set()

    def unknown(self, asks: Sequence[Ask]) -> Iterator[str]:
        """Every answer that differs in another way."""
        for ask in asks:
            asked = self._aside.submit(self._theirs.answer, ask)  # in the meantime ours answers
            other, one = self._ours.answer(ask), asked.result()
            if one == other:
                continue
            if known := difference(ask, one, other):
                self.known.add(known)
            else:
                yield f"{ask}\n  MLflow: {str(one)[:SHOWN]}\n  ours:   {str(other)[:SHOWN]}"


@pytest.fixture
def pair(mlflow_server: str, service: Service) -> Iterator[Pair]:
    with ThreadPoolExecutor(1) as aside, requests.Session() as session:
        yield Pair(theirs(mlflow_server, session), ours(), aside)
        _remove_all(mlflow_server + API + "registered-models", session)


def _remove_all(url: str, session: requests.Session) -> None:
    """Tests share MLflow's server, and none may find what another left."""
    for filter_string in ("", PROMPTS):
        found = session.get(f"{url}/search", params={"filter": filter_string, "max_results": 1000}, timeout=60).json()
        for model in found.get("registered_models", []):
            session.delete(f"{url}/delete", json={"name": model["name"]}, timeout=60).raise_for_status()


def test_at_the_edges_of_the_rules(pair: Pair) -> None:
    unknown = [text for asks in EDGES.values() for text in pair.unknown(asks)]

    assert not unknown, "\n".join(unknown)
    assert pair.known == set(DIFFERENCES), "there is a difference that is none any more"


@pytest.mark.parametrize("seed", SEEDS)
def test_in_a_made_up_story(pair: Pair, seed: int) -> None:
    unknown = list(pair.unknown(Story(seed).asks(REQUESTS_A_STORY)))

    assert not unknown, "\n".join(unknown)
