"""The import of a registry of MLflow's, with both registries in memory: numbers, lost answers, two at once, bad bytes.

tests/e2e/test_import_mlflow.py has it with MLflow's own server and library.
"""

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from modelreg import mlflow_import
from modelreg.errors import ConnectionFailed
from modelreg.mlflow_import import IMPORTED_FROM, UNNUMBERED, MlflowImport, Outcome

THERE, HERE = "http://there", "http://here"


class NotThere(Exception):
    error_code = "RESOURCE_DOES_NOT_EXIST"


class Page(list[Any]):
    token = None


@dataclass
class MemoryRegistry:
    """What MLflow's client of a registry does; `after_create` runs behind each new version, and may raise."""

    models: dict[str, Any] = field(default_factory=dict)
    versions: list[Any] = field(default_factory=list)
    given: int = 0
    after_create: Callable[[Any], None] = lambda _: None
    may_delete: bool = True

    def search_registered_models(self, filter_string: str = "", max_results: int = 0) -> Page:
        return Page() if filter_string else Page(self.models.values())

    def get_registered_model(self, name: str) -> Any:
        if name not in self.models:
            raise NotThere(name)
        return self.models[name]

    def create_registered_model(self, name: str, tags: dict[str, str], description: str) -> Any:
        self.models[name] = SimpleNamespace(name=name, tags=tags, _tags=tags, description=description, aliases={})
        return self.models[name]

    def search_model_versions(self, filter_string: str, max_results: int) -> Page:
        return Page(self.versions)

    def create_model_version(self, name: str, source: str, run_id: str = "", **stated: Any) -> Any:
        self.given += 1
        made = version(self.given, source, stated["tags"], name)
        self.versions.append(made)
        self.after_create(made)
        return made

    def delete_model_version(self, name: str, number: str) -> None:
        if not self.may_delete:
            raise PermissionError("This takes an admin.")
        self.versions = [one for one in self.versions if one.version != number]

    def delete_model_version_tag(self, name: str, number: str, key: str) -> None:
        next(one for one in self.versions if one.version == number).tags.pop(key, None)

    def get_model_version_download_uri(self, name: str, number: str) -> str:
        return f"there:{number}"

    def set_registered_model_alias(self, name: str, alias: str, number: str) -> None:
        self.models[name].aliases[alias] = number


def version(number: int, source: str = "runs:/1", tags: dict[str, str] | None = None, name: str = "cat") -> Any:
    return SimpleNamespace(
        name=name,
        version=str(number),
        source=source,
        tags=tags or {},
        status="READY",
        description="",
        current_stage="None",
        run_id="",
        run_link="",
    )


@dataclass
class MemoryTracking:
    """What MLflow's client does with logged models; `spoil` is what becomes of bytes on their way."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    spoil: Callable[[bytes], bytes] = lambda content: content
    models: list[Any] = field(default_factory=list)

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="7")

    def search_logged_models(self, experiments: list[str], max_results: int) -> Page:
        return Page(reversed(self.models))

    def create_logged_model(self, experiment_id: str, name: str, tags: dict[str, str]) -> Any:
        self.models.append(SimpleNamespace(name=name, model_id=f"m-{len(self.models)}"))
        self.files[self.models[-1].model_id] = {}
        return self.models[-1]

    def list_logged_model_artifacts(self, model_id: str, folder: str | None) -> list[Any]:
        return [
            SimpleNamespace(path=path, file_size=len(content), is_dir=False)
            for path, content in self.files[model_id].items()
        ]

    def log_model_artifacts(self, model_id: str, folder: str) -> None:
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file():
                path = file.relative_to(folder).as_posix()
                self.sent.append(path)
                self.files[model_id][path] = self.spoil(file.read_bytes())

    def finalize_logged_model(self, model_id: str, status: str) -> None:
        pass


@dataclass
class MemorySide:
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    tracking: MemoryTracking = field(default_factory=MemoryTracking)

    def download(self, uri: str, folder: Path) -> Path:
        """The source has one file for each version, of its number."""
        kind, _, name = uri.partition(":")
        files = {"weights": name.encode()} if kind == "there" else self.tracking.files[name.removeprefix("/")]
        folder.mkdir()
        for path, content in files.items():
            (folder / path).write_bytes(content)
        return folder


@dataclass
class Both:
    """There, registered model `cat` has versions 1 and 3."""

    there: MemorySide = field(default_factory=MemorySide)
    here: MemorySide = field(default_factory=MemorySide)

    def __post_init__(self) -> None:
        self.there.registry.create_registered_model("cat", {"team": "vision"}, "")
        self.there.registry.versions = [version(1), version(3)]

    def run(self, **options: Any) -> list[tuple[str | None, str]]:
        importing = MlflowImport(THERE, HERE, None)
        return [(one.version, str(one.outcome)) for one in importing.outcomes(**options)]

    @property
    def numbers(self) -> list[str]:
        return [one.version for one in self.here.registry.versions]


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Both:
    both = Both()
    monkeypatch.setattr(mlflow_import, "Side", lambda uri, *_: both.there if uri == THERE else both.here)
    return both


def test_numbers_stay_what_they_are(both: Both) -> None:
    assert both.run() == [("1", "imported"), ("3", "imported"), (None, "imported")]
    assert both.numbers == ["1", "3"]
    assert both.run() == [("1", "here"), ("3", "here"), (None, "here")]


CALLS = ("create_registered_model", "create_model_version", "delete_model_version", "delete_model_version_tag")


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize(("name", "at"), [(name, at) for name in CALLS for at in range(4)])
def test_wherever_it_is_killed_the_next_run_makes_it_whole(
    both: Both, monkeypatch: pytest.MonkeyPatch, name: str, at: int, is_done: bool
) -> None:
    call, calls = getattr(both.here.registry, name), itertools.count()

    def dying(*args: Any, **options: Any) -> Any:
        is_the_one = next(calls) == at
        if is_the_one and not is_done:
            raise KeyboardInterrupt
        answer = call(*args, **options)
        if is_the_one:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(both.here.registry, name, dying)
    with contextlib.suppress(KeyboardInterrupt):  # it ends before if there are not as many such calls
        both.run()

    assert both.run()[-1][0] is None
    assert both.numbers == ["1", "3"]
    assert not any(UNNUMBERED in one.tags for one in both.here.registry.versions)


def test_a_version_whose_answer_was_lost_is_known_again(both: Both) -> None:
    def twice(made: Any) -> None:
        """MLflow's client sends a request again whose answer did not arrive."""
        both.here.registry.after_create = lambda _: None
        made.version = both.here.registry.create_model_version("cat", made.source, tags=made.tags).version
        both.here.registry.versions[-2:] = [version(1, made.source, made.tags), made]

    both.here.registry.after_create = twice

    assert both.run()[0] == ("1", "imported")
    assert both.numbers == ["1", "3"]


def test_a_number_that_was_given_to_another_version_is_refused_and_nothing_is_lost(both: Both) -> None:
    both.run()
    both.here.registry.create_model_version("cat", "s3://bucket/another", tags={"by": "hand"})
    both.there.registry.versions.append(version(4))

    assert both.run() == [("1", "here"), ("3", "here"), ("4", "failed"), (None, "here")]
    assert both.here.registry.versions[-1].tags == {"by": "hand"}

    both.here.registry.delete_model_version("cat", "4")
    assert both.run()[2] == ("4", "failed")
    assert both.numbers == ["1", "3"]


def test_a_copy_of_an_imported_version_is_nobodys_leftover(both: Both) -> None:
    both.run()
    both.here.registry.create_model_version("cat", "m", tags={IMPORTED_FROM: "models:/cat/1"})

    assert both.run()[-1] == (None, "here")
    assert both.numbers == ["1", "3", "4"]


def test_without_an_admin_what_comes_before_a_gap_comes(both: Both) -> None:
    both.here.registry.may_delete = False
    assert both.run() == [("1", "imported"), ("3", "failed"), (None, "imported")]

    both.here.registry.may_delete = True
    assert both.run() == [("1", "here"), ("3", "imported"), (None, "here")]
    assert both.numbers == ["1", "3"]


def test_bytes_that_arrive_damaged_are_sent_again_and_never_registered(both: Both) -> None:
    damaged = iter([True])
    both.here.tracking.spoil = lambda content: b"?" if next(damaged, False) else content
    assert both.run()[0] == ("1", "imported")
    assert both.here.tracking.sent == ["weights", "weights", "weights"]

    both.there.registry.versions.append(version(4))
    both.here.tracking.spoil = lambda content: b"?"
    assert both.run()[2] == ("4", "failed")
    assert both.numbers == ["1", "3"]


def test_files_that_are_there_are_not_sent_again(both: Both) -> None:
    def die(made: Any) -> None:
        both.here.registry.after_create = lambda _: None
        both.here.registry.versions.pop()
        both.here.registry.given -= 1
        raise RuntimeError("Nothing was registered.")

    both.here.registry.after_create = die
    assert both.run() == [("1", "failed"), ("3", "waiting"), (None, "imported")]
    assert both.run()[:2] == [("1", "imported"), ("3", "imported")]
    assert both.here.tracking.sent == ["weights", "weights"]


def test_a_registry_that_is_gone_ends_it(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> Any:
        raise OSError("No route.")

    monkeypatch.setattr(both.here.registry, "create_model_version", gone)
    monkeypatch.setattr(both.here.registry, "search_registered_models", gone)

    with pytest.raises(ConnectionFailed, match=r"http://here does not answer: No route\."):
        both.run()


def test_what_is_not_ready_there_waits_and_what_failed_there_is_left_out(both: Both) -> None:
    both.there.registry.versions[0].status = "FAILED_REGISTRATION"
    both.there.registry.versions[1].status = "PENDING_REGISTRATION"

    assert both.run() == [("1", Outcome.SKIPPED), ("3", "failed"), (None, "imported")]
