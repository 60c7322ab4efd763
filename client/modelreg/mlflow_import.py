"""Brings what is registered in MLflow here: versions under their numbers, tags, aliases, stages and files.

MLflow's own library does the talking, so the source may be all that it can read: a server, a database or a folder, with
files in any storage. A version is registered last of all: its files are sent before, read back and compared. So a
version that is here is whole, whatever stopped the command, and the same command goes on where it stopped.

Numbers are given out in order here. Where one is missing in MLflow, because its version was deleted there, the next
version takes it here and is removed again, which needs an admin. Until a version has its number it says so in a tag.
"""

import filecmp
import hashlib
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from modelreg.config import has_credentials, without_secrets
from modelreg.errors import ConnectionFailed, NotFound
from modelreg.mlflow_library import Side, all_of, environment, quoted

IMPORTED_FROM = "registry.imported_from"
PROJECT = "registry.project"
UNNUMBERED = "registry.unnumbered"
EXPERIMENT = "Imported from MLflow"
PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"  # which no other search finds
PROMPT_SOURCE = "dummy-source"  # so MLflow calls the files of a prompt, which has none
STAGES = ("Staging", "Production", "Archived")


class Outcome(StrEnum):
    """What became of a version, or of a registered model (its description, tags and aliases)."""

    IMPORTED = "imported"
    UPDATED = "updated"
    HERE = "here"  # as it is there, from an earlier time
    PLANNED = "planned"  # would be imported
    SKIPPED = "skipped"
    WAITING = "waiting"  # for one before it, which failed
    FAILED = "failed"


class Imported(BaseModel):
    """What became of one of them; without a version, of the registered model itself."""

    name: str
    version: str | None = None
    outcome: Outcome
    why: str = ""


class Refused(Exception):
    """This one cannot be imported; the text says why."""


class MlflowImport:
    """One registry of MLflow's, and this one. Raises LocalError without MLflow's library."""

    def __init__(
        self,
        source: str,
        url: str,
        credentials: tuple[str, str] | None,
        *,
        project: str | None = None,
        workspace: Path | None = None,
        keep_addresses: bool = False,
    ) -> None:
        """credentials: user and password here. workspace: a folder with room for the largest version, twice."""
        self._there = Side(source)
        self._here = Side(url, credentials or ("anonymous", "anonymous"))  # else those of a file of MLflow's
        self._source, self._url = source, url
        self._project, self._workspace, self._keep_addresses = project, workspace, keep_addresses
        self._from = without_secrets(source) if has_credentials(source) else source.rstrip("/")
        self._sent: dict[str, Any] | None = None

    def outcomes(self, names: Collection[str] = (), *, dry_run: bool = False) -> Iterator[Imported]:
        """Import these registered models, or all: each version as it is done, then its registered model.

        Raises NotFound, ConnectionFailed and InvalidInput.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for model in self._models(names):
                yield from self._of_model(model, dry_run)

    def _models(self, names: Collection[str]) -> list[Any]:
        try:
            with environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="1"):
                found = all_of(self._there.registry.search_registered_models)
            found += all_of(self._there.registry.search_registered_models, PROMPTS)
        except Exception as exc:
            raise ConnectionFailed(
                f"MLflow cannot be read at {self._from}: {self._told(exc)}",
                hint="Check the URI, and the variables MLFLOW_TRACKING_TOKEN, or _USERNAME and _PASSWORD.",
            ) from exc
        if missing := sorted(set(names) - {model.name for model in found}):
            raise NotFound(
                f"There is no registered model {missing[0]!r} at {self._from}.",
                hint="Names are those in MLflow; without a name all are imported.",
            )
        return sorted((one for one in found if not names or one.name in names), key=lambda one: str(one.name))

    def _of_model(self, found: Any, dry_run: bool) -> Iterator[Imported]:
        name = found.name
        try:
            model = self._there.registry.get_registered_model(name)
            versions = _versions(self._there, model)
            here = self._model_here(name)
            known = self._versions_here(here, dry_run) if here else {}
            is_new = here is None
            if is_new and not dry_run:
                here = self._new_model(model)
        except Exception as exc:
            yield self._failed(name, None, exc)
            return
        done: set[str] = set()
        first_failed = ""
        for version in sorted(versions, key=lambda one: int(one.version)):
            if first_failed:
                why = f"version {first_failed} comes first, and failed"
                yield Imported(name=name, version=_number(version), outcome=Outcome.WAITING, why=why)
                continue
            try:
                yield self._of_version(version, known, dry_run)
                done.add(_number(version))
            except Exception as exc:
                first_failed = _number(version)
                yield self._failed(name, _number(version), exc)
        if not dry_run:
            try:
                is_changed = self._completed(model, here, done)
                outcome = Outcome.IMPORTED if is_new else Outcome.UPDATED if is_changed else Outcome.HERE
                yield Imported(name=name, outcome=outcome)
            except Exception as exc:
                yield self._failed(name, None, exc)

    def _failed(self, name: str, version: str | None, exc: Exception) -> Imported:
        """Raises ConnectionFailed instead if one of the two is not there any more: all else would fail, too."""
        if isinstance(exc, Refused):
            return Imported(name=name, version=version, outcome=Outcome.FAILED, why=str(exc))
        for side, what in ((self._there, f"MLflow at {self._from}"), (self._here, self._url)):
            try:
                with environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="1"):
                    side.registry.search_registered_models(max_results=1)
            except Exception as gone:
                raise ConnectionFailed(
                    f"{what} does not answer: {self._told(gone)}",
                    hint="What is here is whole. Type the same command again.",
                ) from exc
        return Imported(name=name, version=version, outcome=Outcome.FAILED, why=self._told(exc))

    # The registered model

    def _name_here(self, name: str) -> str:
        return f"{self._project}.{name}" if self._project else name

    def _model_here(self, name: str) -> Any | None:
        """Raises Refused if it is another's."""
        try:
            here = self._here.registry.get_registered_model(self._name_here(name))
        except Exception as exc:
            if getattr(exc, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        if (imported := here.tags.get(IMPORTED_FROM)) != self._from:
            origin = f"from {imported}" if imported else "not from MLflow"
            raise Refused(
                f"there is a registered model {here.name!r} here already, {origin}: rename or delete it first"
            )
        return here

    def _versions_here(self, here: Any, dry_run: bool) -> dict[str, Any]:
        """By their numbers, others' too. What was left over when numbers were made is removed."""
        found = {}
        for version in _versions(self._here, here):
            number = _number(version)
            if UNNUMBERED not in version.tags or dry_run:
                found[number] = version
            elif version.tags[UNNUMBERED] == number:
                found[number] = self._numbered(version)
            else:
                self._here.registry.delete_model_version(here.name, number)
        return found

    def _new_model(self, model: Any) -> Any:
        tags = {**_tags(model._tags), IMPORTED_FROM: self._from, **({PROJECT: self._project} if self._project else {})}
        return self._here.registry.create_registered_model(model.name, tags, model.description)

    def _completed(self, model: Any, here: Any, versions: Collection[str]) -> bool:
        """Description, tags, and the aliases of versions that are here; whether something changed."""
        name, is_changed = here.name, False
        if (model.description or "") != (here.description or ""):
            self._here.registry.update_registered_model(name, model.description or "")
            is_changed = True
        for key, value in _tags(model._tags).items():
            if here._tags.get(key) != value:
                self._here.registry.set_registered_model_tag(name, key, value)
                is_changed = True
        for alias, version in model.aliases.items():
            if str(version) in versions and str(here.aliases.get(alias)) != str(version):
                self._here.registry.set_registered_model_alias(name, alias, str(version))
                is_changed = True
        return is_changed

    # Its versions

    def _of_version(self, version: Any, known: Mapping[str, Any], dry_run: bool) -> Imported:
        name, number = version.name, _number(version)
        if version.status == "FAILED_REGISTRATION":
            why = "its registration failed there"
            return Imported(name=name, version=number, outcome=Outcome.SKIPPED, why=why)
        if version.status != "READY":
            raise Refused(f"it is {version.status} there: import it once it is ready")
        here = known.get(number)
        if here and here.tags.get(IMPORTED_FROM) != _origin(version):
            raise Refused(f"number {number} is that of a version that was registered here")
        if dry_run:
            return Imported(name=name, version=number, outcome=Outcome.HERE if here else Outcome.PLANNED)
        if here:
            is_changed = self._updated(version, here)
            return Imported(name=name, version=number, outcome=Outcome.UPDATED if is_changed else Outcome.HERE)
        source, why = self._source_here(version)
        self._updated(version, self._registered(version, source))
        return Imported(name=name, version=number, outcome=Outcome.IMPORTED, why=why)

    def _source_here(self, version: Any) -> tuple[str, str]:
        """Where its files are here; their address there if they cannot be read and that is enough."""
        if version.source == PROMPT_SOURCE:
            return PROMPT_SOURCE, ""
        with tempfile.TemporaryDirectory(prefix="modelreg-import-", dir=self._workspace) as folder:
            try:
                files = self._read(version, Path(folder) / "there")
            except Exception as exc:
                if not self._keep_addresses:
                    raise Refused(f"its files cannot be read from {version.source}: {self._told(exc)}") from exc
                return version.source, f"without its files, which cannot be read: {self._told(exc)}"
            return self._sent_here(version, files, Path(folder)), ""

    def _read(self, version: Any, folder: Path) -> Path:
        uri = self._there.registry.get_model_version_download_uri(version.name, _number(version))
        root = self._there.download(uri, folder)
        if not _files(root):
            raise Refused("there are none")
        return root

    def _sent_here(self, version: Any, root: Path, folder: Path) -> str:
        """The logged model here that has these files. Raises Refused if it has others in the end."""
        files = _files(root)
        model, sizes = self._logged_model(version, files)
        sent = {path: file for path, file in files.items() if sizes.get(path) != file.stat().st_size}
        for attempt in ("first", "second"):
            self._send(model.model_id, sent, folder / f"sent-{attempt}")
            here = _files(self._here.download(f"models:/{model.model_id}", folder / f"here-{attempt}"))
            sent = {path: file for path, file in files.items() if not _is_same(file, here.get(path))}
            if not sent:
                break
        if sent or here.keys() != files.keys():
            raise Refused(
                f"what came back from here is not the same: {sorted({*sent, *(here.keys() ^ files.keys())})[0]!r}"
            )
        self._here.tracking.finalize_logged_model(model.model_id, "READY")
        return f"models:/{model.model_id}"

    def _logged_model(self, version: Any, files: Collection[str]) -> tuple[Any, Mapping[str, int]]:
        """One for these files, and what it has of them: that of an earlier time, unless it has others."""
        name = f"import-{hashlib.sha256(f'{self._from} {_origin(version)}'.encode()).hexdigest()}"
        if earlier := self._logged_models().get(name):
            sizes = self._sizes(earlier.model_id)
            if sizes.keys() <= set(files):
                return earlier, sizes
        tags = {IMPORTED_FROM: _origin(version)}
        model = self._here.tracking.create_logged_model(self._experiment(), name, tags=tags)
        self._logged_models()[name] = model
        return model, {}

    def _send(self, model_id: str, files: Mapping[str, Path], folder: Path) -> None:
        for path, file in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file.resolve())
        if files:
            self._here.tracking.log_model_artifacts(model_id, str(folder))

    def _sizes(self, model_id: str, folder: str | None = None) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for entry in self._here.tracking.list_logged_model_artifacts(model_id, folder):
            sizes |= self._sizes(model_id, entry.path) if entry.is_dir else {entry.path: entry.file_size}
        return sizes

    def _logged_models(self) -> dict[str, Any]:
        """What was sent for versions so far, by its name."""
        if self._sent is None:
            self._sent = {}
            for model in all_of(lambda **page: self._here.tracking.search_logged_models([self._experiment()], **page)):
                self._sent.setdefault(model.name, model)
        return self._sent

    def _experiment(self) -> str:
        name = f"{EXPERIMENT} ({self._project})" if self._project else EXPERIMENT
        if found := self._here.tracking.get_experiment_by_name(name):
            return str(found.experiment_id)
        tags = {PROJECT: self._project} if self._project else None
        return str(self._here.tracking.create_experiment(name, tags=tags))

    def _registered(self, version: Any, source: str) -> Any:
        """Under its number. Raises Refused if another version has it, or had it."""
        name, wanted = self._name_here(version.name), int(_number(version))
        made = None
        while made is None or int(made.version) < wanted:
            if made:
                self._here.registry.delete_model_version(name, made.version)
            made = self._here.registry.create_model_version(
                *(name, source, version.run_id),
                tags={**_tags(version.tags), IMPORTED_FROM: _origin(version), UNNUMBERED: str(wanted)},
                run_link=version.run_link,
                description=version.description,
                await_creation_for=0,
                model_id=source.removeprefix("models:/") if source.startswith("models:/m-") else None,
            )
        if int(made.version) == wanted:
            return self._numbered(made)
        self._here.registry.delete_model_version(name, made.version)
        # Unless the answer to an earlier request was lost, or somebody imports the same.
        here = self._versions_here(self._here.registry.get_registered_model(name), dry_run=False).get(str(wanted))
        if here is None or here.tags.get(IMPORTED_FROM) != _origin(version):
            raise Refused(f"number {wanted} was given to another version here")
        return here

    def _numbered(self, version: Any) -> Any:
        self._here.registry.delete_model_version_tag(version.name, version.version, UNNUMBERED)
        return version

    def _updated(self, version: Any, here: Any) -> bool:
        """Bring what may change to what it is there; whether something did."""
        name, number, is_changed = here.name, here.version, False
        if (version.description or "") != (here.description or ""):
            self._here.registry.update_model_version(name, number, version.description or "")
            is_changed = True
        for key, value in _tags(version.tags).items():
            if here.tags.get(key) != value:
                self._here.registry.set_model_version_tag(name, number, key, value)
                is_changed = True
        if version.current_stage != here.current_stage and version.current_stage in STAGES:
            self._here.registry.transition_model_version_stage(name, number, version.current_stage)
            is_changed = True
        return is_changed

    def _told(self, exc: Exception) -> str:
        """Its first line, without the password that the source may have in it."""
        lines = str(exc).strip().splitlines() or [type(exc).__name__]
        return lines[0].replace(self._source.rstrip("/"), self._from)


def _versions(side: Side, model: Any) -> list[Any]:
    """All versions of a registered model; those of a prompt are found by its tag alone."""
    filter_string = f"name = {quoted(model.name)}"
    if "mlflow.prompt.is_prompt" in model._tags:
        filter_string += f" AND {PROMPTS}"
    return all_of(side.registry.search_model_versions, filter_string)


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Those that are not about where it is: the source may be a registry like this one."""
    return {key: value for key, value in tags.items() if key not in (IMPORTED_FROM, PROJECT, UNNUMBERED)}


def _number(version: Any) -> str:
    """Which some of MLflow's stores have as a number."""
    return str(version.version)


def _is_same(file: Path, other: Path | None) -> bool:
    return other is not None and filecmp.cmp(file, other, shallow=False)


def _files(root: Path) -> dict[str, Path]:
    """Files by their paths below a folder; a file alone by its name."""
    if root.is_file():
        return {root.name: root}
    return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}


def _origin(version: Any) -> str:
    """What a version that comes from it says."""
    return f"models:/{version.name}/{_number(version)}"
