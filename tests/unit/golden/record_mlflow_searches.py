"""Record what MLflow's own store answers to searches, for tests/unit/test_filters.py and test_searching.py.

Runs in an environment with MLflow and without this project, and writes mlflow_searches.json beside it:

    .venv-mlflow/bin/python tests/unit/golden/record_mlflow_searches.py [how many are made] [where to]

What is asked is written by hand (mlflow_filters.txt), joined from parts, or made of those by leaving out and adding
words, from a fixed seed. An answer is what was found, names or names with numbers; or the error: null, if it is a fault
of MLflow's own.
"""

import itertools
import json
import random
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import sqlalchemy
import sqlparse
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

FOLDER = Path(__file__).parent
PROMPT = "mlflow.prompt.is_prompt"
MODELS: dict[str, dict[str, str]] = {
    "cat": {"team": "vision", "Team": "other", "team name": "a b"},
    "Cat": {"team": "Vision", "level": "10"},
    "cat 2": {"team": "vision lab", "empty": ""},
    "category": {"team": "50%", "a.b": "dotted", "a:b/c": "x"},
    "c_t": {"team": "a_b", "quote": "it's"},
    "det%ector": {"team": "it''s", "quote": 'say "x"'},
    "détecteur": {"team": "équipe", "level": "9"},
    "it's": {"team": r"back\slash", "level": "010"},
    "zebra": {},
    "asks": {PROMPT: "true", "team": "vision"},
    "ASKS": {PROMPT: "TRUE"},
    "asks not": {PROMPT: "false", "team": "text"},
    "odd": {PROMPT: "maybe"},
}
RUN = "0123456789abcdef0123456789abcdef"
# name, source, run, tags, milliseconds of creation and of the last change
VERSIONS: list[tuple[str, str, str | None, dict[str, str], int, int]] = [
    ("cat", "s3://bucket/cat/1", RUN, {"team": "vision"}, 1_000, 5_000),
    ("cat", "s3://bucket/cat/2", None, {"team": "vision lab", "level": "1"}, 2_000, 2_000),
    ("cat", "s3://bucket/Cat/3", "run-b", {}, 3_000, 5_000),
    ("Cat", "s3://bucket/cat/1", RUN, {"team": "Vision"}, 1_000, 4_000),
    ("cat 2", "s3://other/a_b", "run-b", {"a.b": "x"}, 500, 6_000),
    ("zebra", "s3://other/a%b", "run-c", {"team name": "a b"}, 4_000, 4_000),
    ("zebra", "s3://other/it's", "it's", {"quote": "it's"}, 4_500, 4_500),
    ("asks", "dummy-source", None, {PROMPT: "true", "team": "vision"}, 600, 600),
    ("asks not", "s3://bucket/asks/1", None, {PROMPT: "false"}, 700, 700),
]

TEXTS = ["'cat'", '"cat"', "'cat%'", "'C%'", "'%at%'", "'c_t'", "''", "cat", "`cat`", "5", "('cat')", "('cat', 'Cat')"]
COMPARATORS = ["=", "!=", "<>", "==", "<", "<=", ">", ">=", "LIKE", "like", "ILIKE", "IN", "NOT IN", "not in", "RLIKE"]
NUMBERS = ["1", "'1'", '"2"', "1.0", "-1", "+1", "0", "01", "'01'", "' 2 '", "'x'", "''", "1e0", "(1)", "(1, 2)"]
ORDERS: list[list[str]] = [
    [], ["name"], ["name ASC"], ["name DESC"], ["name desc"], ["name  Desc"], ["name", "name"],
    ["name ASC", "name DESC"], ["timestamp"], ["timestamp DESC"], ["last_updated_timestamp DESC"],
    ["timestamp", "last_updated_timestamp"], ["last_updated_timestamp DESC", "name ASC"],
    ["name ASC", "last_updated_timestamp"], ["creation_timestamp"], ["creation_timestamp DESC"], ["version_number"],
    ["version_number DESC"], ["version"], ["name ASC", "version_number"], ["version_number", "name DESC"],
    ["last_updated_timestamp", "version_number"], ["name ASCENDING"], ["name x"], ["name ASC x"],
    ["name, version_number"], ["name ASC, version_number DESC"], ["`name`"], ["`name` DESC"], ['"name"'],
    ["'name'"], ["'name' DESC"], ["attribute.name"], ["attributes.name DESC"], ["attr.name"], ["tags.team"],
    ["tag.x ASC"], ["run_id"], ["source_path"], ["Name"], ["NAME ASC"], [""], [" "], ["ASC"], ["name;"],
    ["name; x"], ["name = 1"], ["name ASC", ""], ["last_updated_timestamp ASC"],
    ["creation_timestamp ASC", "name DESC"], ["timestamp ASC"], ["attribute.`name`"],
    ["attribute.`version_number` DESC"], ["model.name"], ["metrics.x"], ["name -- x"], ["'name"], ["name 'DESC'"],
    ["name `DESC`"], ["name\tDESC"], ["name\nDESC"], [" name DESC "], ["desc name"], ["1"], ["*"],
]  # fmt: skip


def combined() -> list[str]:
    """Each key with each comparator and each value; then some joined with others."""
    keys = ["name", "tags.team", "tags.`team name`", "source_path", "run_id", "version_number", "attribute.name", "x"]
    clauses = [f"{k} {c} {v}" for k, c, v in itertools.product(keys[:2], COMPARATORS, TEXTS)]
    clauses += [f"{k} {c} {v}" for k, c, v in itertools.product(keys[2:5], COMPARATORS, TEXTS[::4])]
    clauses += [f"{k} {c} {v}" for k, c, v in itertools.product(keys[5:], COMPARATORS, NUMBERS)]
    return clauses


def mutated(filters: Sequence[str], count: int, seed: int) -> list[str]:
    """Filters with words and characters left out, doubled and exchanged."""
    dice = random.Random(seed)
    words = "name tags.team tags. run_id version_number = != LIKE ILIKE IN NOT AND OR ( ) , 'cat' \"cat\" 1 ' \" ` . ;"
    made = []
    for _ in range(count):
        parts = dice.choice(filters).split(" ")
        if dice.random() < 0.4:
            parts += ["AND", *dice.choice(filters).split(" ")]
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(parts) + 1)
            parts[at : at + dice.randint(0, 2)] = dice.choices(words.split(" "), k=dice.randint(0, 2))
        made.append(dice.choice([" ", " ", "  "]).join(parts))
    return made


def filled_store(folder: Path) -> SqlAlchemyStore:
    store = SqlAlchemyStore(f"sqlite:///{folder}/registry.db")
    for name, tags in MODELS.items():
        store.create_registered_model(name, [RegisteredModelTag(key, value) for key, value in tags.items()])
    for name, source, run_id, tags, _, _ in VERSIONS:
        store.create_model_version(
            name, source, run_id or "", [ModelVersionTag(key, value) for key, value in tags.items()]
        )
    with store.engine.begin() as connection:
        for number, name in enumerate(MODELS):
            told = {"at": changed_at(number), "name": name}
            connection.execute(
                sqlalchemy.text("UPDATE registered_models SET last_updated_time = :at WHERE name = :name"), told
            )
        for told in numbered():
            connection.execute(
                sqlalchemy.text(
                    "UPDATE model_versions SET creation_time = :created, last_updated_time = :changed"
                    " WHERE name = :name AND version = :version"
                ),
                {key: told[key] for key in ("created", "changed", "name", "version")},
            )
    return store


def changed_at(number: int) -> int:
    """Some have the same, so that something else has to tell them apart."""
    return 1_000 * (number * 7 % 5 + 1)


def numbered() -> list[dict[str, Any]]:
    counts: dict[str, int] = {}
    found = []
    for name, source, run_id, tags, created, changed in VERSIONS:
        counts[name] = counts.get(name, 0) + 1
        told = {"name": name, "version": counts[name], "source": source, "run_id": run_id or "", "tags": tags}
        found.append({**told, "created": created, "changed": changed})
    return found


def answer(ask: Callable[[], Any]) -> Any:
    """What was found; or what was raised: a text for what the caller did wrong, null for what MLflow did."""
    try:
        return {"found": [_told(one) for one in ask()]}
    except MlflowException as exc:
        return {"error": _settled(exc.message) if exc.error_code == "INVALID_PARAMETER_VALUE" else None}
    except Exception:
        return {"error": None}


def _settled(message: str) -> str:
    """With sets in order, which is another in each process."""
    return re.sub(r"{('\w+'(?:, '\w+')*)}", lambda match: f"{{{', '.join(sorted(match[1].split(', ')))}}}", message)


def _told(found: Any) -> Any:
    return [found.name, int(found.version)] if hasattr(found, "version") else found.name


def recorded(filters: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        store = filled_store(Path(folder))
        models, versions = store.search_registered_models, store.search_model_versions
        return {
            "model_filters": [[one, answer(lambda one=one: models(one, 1000))] for one in filters],
            "version_filters": [[one, answer(lambda one=one: versions(one))] for one in filters],
            "model_orders": [[one, answer(lambda one=one: models(None, 1000, one))] for one in ORDERS],
            "version_orders": [[one, answer(lambda one=one: versions(None, 10_000, one))] for one in ORDERS],
        }


def main(count: int = 400, target: Path = FOLDER / "mlflow_searches.json") -> None:
    by_hand = (FOLDER / "mlflow_filters.txt").read_text().split("\n")
    filters = [" ", "name = 'cat'\nAND\ttags.team = 'vision'", *by_hand, *combined()]
    filters = list(dict.fromkeys([*filters, *mutated(filters, count, seed=1)]))
    models = [{"name": name, "tags": tags, "changed": changed_at(n)} for n, (name, tags) in enumerate(MODELS.items())]
    said = {"mlflow": mlflow.__version__, "sqlparse": sqlparse.__version__, "sqlalchemy": sqlalchemy.__version__}
    world = {**said, "models": models, "versions": numbered()}
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in world.items()]
    for key, cases in recorded(filters).items():
        told = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
        lines.append(f"{json.dumps(key)}: [\n{told}\n]")
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *map(Path, sys.argv[2:3]))
