"""Made-up stories: what a client may ask of a registry, one thing after another, from a seed.

All names of a story begin with its own, and so does what it searches for: stories share a server.
"""

import random
from collections.abc import Callable
from typing import Any

from tests.mlflow.edges import MODELS, VERSIONS, delete, get, patch, post, tags
from tests.mlflow.pair import Ask

NAMES = ["cat", "Cat", "a b", "c_t", "50%", "détecteur", "category"]
KEYS = ["team", "Team", "team name", "a.b", "stage"]
VALUES = ["vision", "Vision", "vision lab", "a_b", "50%", "équipe", "", "10", "9"]
ALIASES = ["best", "Best", "next", "é"]
STAGES = ["Staging", "Staging", "staging", "Production", "None", "Archived"]
NUMBERS = ["1", "2", "3", "1", "2", "3", "4", "5"]
PATTERNS = ["%", "c%", "%a%", "_at", "C%", "%\\_%", "cat", "%50%"]
MODEL_ORDERS = [[], ["name"], ["name DESC"], ["timestamp DESC"], ["last_updated_timestamp", "name DESC"]]
VERSION_ORDERS = [[], ["version_number"], ["name", "version_number DESC"], ["creation_timestamp DESC"], ["name DESC"]]


class Story:
    """A sequence of requests. The more often a kind of request stands in `_kinds`, the more often it comes."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._prefix = f"story{seed}-"
        self._count = 0
        self._kinds: list[Callable[[], list[Ask]]] = [
            *[self._new_model] * 3,
            *[self._new_version] * 5,
            *[self._transition] * 9,
            *[self._alias] * 4,
            *[self._tag] * 4,
            *[self._look] * 5,
            *[self._models] * 3,
            *[self._versions] * 3,
            *(self._describe, self._rename, self._end),
        ]

    def asks(self, count: int) -> list[Ask]:
        first = [post(f"{MODELS}/create", name=self._prefix + name) for name in NAMES[:4]]
        stated = [
            {"name": self._prefix + name, "source": f"s3://bucket/{name}"} for name in NAMES[:2] for _ in range(3)
        ]
        first += [post(f"{VERSIONS}/create", **one) for one in stated]
        return first + [ask for _ in range(count) for ask in self._dice.choice(self._kinds)()]

    def _one(self, of: list[Any]) -> Any:
        return self._dice.choice(of)

    def _name(self) -> str:
        return self._prefix + str(self._one([*NAMES, *NAMES[:2] * 4]))

    def _version(self) -> dict[str, str]:
        return {"name": self._name(), "version": self._one(NUMBERS)}

    def _said(self) -> str:
        """What was not said before: what changes nothing is another matter."""
        self._count += 1
        return f"said {self._count}"

    def _new_model(self) -> list[Ask]:
        stated = {"tags": tags(**{self._one(KEYS): self._one(VALUES)})} if self._one([True, False]) else {}
        return [post(f"{MODELS}/create", name=self._name(), description=self._said(), **stated)]

    def _new_version(self) -> list[Ask]:
        name = self._name()
        sources = [f"s3://bucket/{self._one(NAMES)}", f"models:/{self._name()}/{self._one(NUMBERS)}"]
        sources += [f"models:/{self._name()}@{self._one(ALIASES)}", f"models:/{self._name()}/latest"]
        stated: dict[str, Any] = {"source": self._one([sources[0], *sources])}
        if self._one([True, False]):
            stated["tags"] = tags(**{self._one(KEYS): self._one(VALUES)})
        if stated["source"].startswith("s3:") and self._one([True, False]):
            stated["run_id"] = self._one(["run-a", "run-b"])
        return [post(f"{VERSIONS}/create", name=name, **stated)]

    def _transition(self) -> list[Ask]:
        """Of what is there, mostly, and into few stages: so that they meet there."""
        name = self._prefix + str(self._one([*NAMES[:2] * 3, *NAMES]))
        stated = {"name": name, "version": self._one(NUMBERS), "stage": self._one(STAGES)}
        archives = stated["stage"].lower() in ("staging", "production") and self._one([True, True, False])
        return [post(f"{VERSIONS}/transition-stage", **stated, archive_existing_versions=archives)]

    def _alias(self) -> list[Ask]:
        stated = {"name": self._name(), "alias": self._one(ALIASES)}
        put = post(f"{MODELS}/alias", **stated, version=self._one(NUMBERS))
        return [self._one([put, put, get(f"{MODELS}/alias", **stated), delete(f"{MODELS}/alias", **stated)])]

    def _tag(self) -> list[Ask]:
        where, whose = self._one([(MODELS, {"name": self._name()}), (VERSIONS, self._version())])
        key = self._one(KEYS)
        put = post(f"{where}/set-tag", **whose, key=key, value=self._one(VALUES))
        return [self._one([put, put, delete(f"{where}/delete-tag", **whose, key=key)])]

    def _look(self) -> list[Ask]:
        latest = {"name": self._name(), "stages": self._dice.sample(STAGES, self._dice.randint(0, 2))}
        return [
            self._one(
                [
                    get(f"{MODELS}/get", name=self._name()),
                    get(f"{VERSIONS}/get", **self._version()),
                    get(f"{VERSIONS}/get-download-uri", **self._version()),
                    post(f"{MODELS}/get-latest-versions", **latest),
                    get(f"{MODELS}/alias", name=self._name(), alias="latest"),
                ]
            )
        ]

    def _models(self) -> list[Ask]:
        return self._pages(f"{MODELS}/search", [self._of_name(), self._of_tag()], MODEL_ORDERS)

    def _versions(self) -> list[Ask]:
        number = f"version_number {self._one(['=', '!=', '>', '<=', '>='])} {self._one(NUMBERS)}"
        run = self._one(["run_id = 'run-a'", "run_id IN ('run-a', 'run-c')", "source_path LIKE '%cat%'"])
        return self._pages(f"{VERSIONS}/search", [self._of_name(), self._of_tag(), number, run], VERSION_ORDERS)

    def _of_name(self) -> str:
        like = f"name {self._one(['LIKE', 'ILIKE'])} '%{self._one(PATTERNS)}'"
        one = f"name {self._one(['=', '!='])} '{self._name()}'"
        return str(self._one([like, one, f"name IN ('{self._name()}', '{self._name()}')"]))

    def _of_tag(self) -> str:
        return f"tags.`{self._one(KEYS)}` {self._one(['=', '!=', 'LIKE', 'ILIKE'])} '{self._one([*VALUES, *PATTERNS])}'"

    def _pages(self, path: str, clauses: list[str], orders: list[list[str]]) -> list[Ask]:
        stated = self._dice.sample(clauses, self._dice.randint(0, min(2, len(clauses))))
        filter_ = " AND ".join([f"name LIKE '{self._prefix}%'", *stated])
        asked = {"filter": filter_, "order_by": self._one(orders), "max_results": self._one([1, 2, 3, 100])}
        return [Ask("GET", path, asked, is_paged=True)]

    def _describe(self) -> list[Ask]:
        of_model = patch(f"{MODELS}/update", name=self._name(), description=self._said())
        return [self._one([of_model, patch(f"{VERSIONS}/update", **self._version(), description=self._said())])]

    def _rename(self) -> list[Ask]:
        old, new = self._dice.sample(NAMES, 2)
        return [post(f"{MODELS}/rename", name=self._prefix + old, new_name=self._prefix + new)]

    def _end(self) -> list[Ask]:
        of_version = delete(f"{VERSIONS}/delete", **self._version())
        return [self._one([of_version, of_version, delete(f"{MODELS}/delete", name=self._name())])]
