"""What a client may name as the source of a version, and which artifact that is.

Nothing is fetched from outside, and nothing of ours is named from outside: what is here is found by its run, its
logged model or its version, which the caller must see.
"""

import posixpath
import re
from typing import NamedTuple, NoReturn
from urllib.parse import unquote_plus, urlsplit

from chalicelib.registry.access import Actor
from chalicelib.registry.errors import InvalidInput, NotFound
from chalicelib.registry.models import External, Lineage, ModelVersion
from chalicelib.registry.numbering import NewVersion
from chalicelib.registry.registered_models import shown_name
from chalicelib.registry.trees import TreePlace, place_of
from chalicelib.settings import settings
from chalicelib.surfaces.mlflow.names import stage_of, valid_alias
from chalicelib.surfaces.mlflow.protocol import InvalidParameter
from chalicelib.surfaces.mlflow.registered_models import LATEST, aliased, named, numbered
from chalicelib.wiring_mlflow import numbering, tracking, trees

MAX_SOURCE = 2_000
LOCAL_SCHEMES = ("", "file")
PARAMETERS = {"run": "run_id", "model": "model_id"}
# What a prompt's version has for a source: its text is a tag, and there are no files.
PLACEHOLDERS = ("dummy-source", "prompt-template")


class Source(NamedTuple):
    """What a request says of where a version comes from. None is not said; an empty text says that there is none."""

    uri: str
    run_id: str | None = None
    model_id: str | None = None
    run_link: str = ""

    @property
    def owner(self) -> str:
        """Whose the files are to be."""
        return "model" if self.model_id else "run"

    @property
    def lineage(self) -> Lineage:
        return Lineage(
            source=self.uri,
            run_id=self.run_id or None,
            run_link=self.run_link or None,
            logged_model_id=self.model_id or None,
        )


def new_version(source: Source, by: Actor) -> NewVersion:
    """What is registered from this source. Raises InvalidParameter, and NotFound for a version that is not there.

    Sources are refused in the order in which MLflow's server looks at them, so that errors are the same.
    """
    if len(source.uri) > MAX_SOURCE:
        raise InvalidParameter(f"'source' exceeds the maximum length of {MAX_SOURCE} characters")
    scheme, host, path = _parts(source)
    if scheme == "models" and host:
        raise InvalidParameter(
            f"Invalid model version source: '{source.uri}'. Registered model sources must use the active model"
            " registry."
        )
    if scheme == "models" and (name := _versioned_name(source, path)):
        return _copy(source, name, by)
    if scheme in LOCAL_SCHEMES or re.fullmatch("[a-z]", scheme):
        _refuse_local(source, by)
    _refuse_relative(source)
    match scheme:
        case "models":
            return _of_a_logged_model(source, path[1:], by)
        case "runs":
            return _of_a_run(source, host, path[1:], by)
        case "mlflow-artifacts":
            return _of_a_tree(source, path[1:], by)
    _refuse_own_bucket(source, scheme, host)
    if source.model_id:
        source = _tracked(source, by) or source
    return NewVersion(lineage=source.lineage, artifact=External(uri=source.uri))


def prompt_version(source: Source) -> NewVersion:
    """A version of a prompt. Raises InvalidParameter."""
    if source.uri not in PLACEHOLDERS:
        raise InvalidParameter(f"Invalid prompt source: '{source.uri}'. Prompt sources must use an MLflow placeholder.")
    return NewVersion(lineage=source.lineage, artifact=External(uri=source.uri))


def _parts(source: Source) -> tuple[str, str, str]:
    """Scheme, host and path. Names of registered models may have a `#`."""
    try:
        split = urlsplit(source.uri, allow_fragments=not source.uri.lower().startswith("models:"))
    except ValueError:
        raise InvalidParameter(f"Invalid model version source: '{source.uri}'. It is no URI.") from None
    return split.scheme, split.netloc, split.path


# Other versions


def _versioned_name(source: Source, path: str) -> tuple[str, str, str] | None:
    """Name, separator and what follows of `/name/1` or `/name@alias`; None for the id of a logged model."""
    names = path.lstrip("/").split("/")
    if not path.startswith("/") or len(path) < 2 or len(names) > 2 or not names[0].strip():
        _not_of(source, "model")
    if len(names) == 1 and "@" not in names[0]:
        return None
    name, separator, which = (names[0], "/", names[1]) if len(names) == 2 else names[0].rpartition("@")
    if not which.strip():
        _not_of(source, "model")
    return name, separator, which


def _copy(source: Source, name: tuple[str, str, str], by: Actor) -> NewVersion:
    copied = _version_at(source, *name, by)
    known = copied.lineage or Lineage(source=source.uri)
    if source.run_id not in (None, known.run_id or "") or source.model_id not in (None, "", known.logged_model_id):
        raise InvalidParameter(
            f"Invalid model version source: '{source.uri}'. The run_id and model_id request parameters must match the"
            " referenced model version."
        )
    from_ = {"source": f"models:/{shown_name(copied)}/{copied.number}", "run_link": source.run_link or None}
    return NewVersion(lineage=known.model_copy(update=from_), artifact=copied.artifact, copied=copied)


def _version_at(source: Source, name: str, separator: str, which: str, by: Actor) -> ModelVersion:
    """Raises NotFound and InvalidParameter."""
    model = named(name)
    if model.is_prompt:
        raise InvalidParameter(
            f"Invalid model version source: '{source.uri}'. Prompt versions cannot be used as model version sources."
        )
    if separator == "@":
        return aliased(model, valid_alias(which), name)
    if separator == "/" and which.isdigit():
        return numbered(name, which)[1]
    is_any = which.lower() == LATEST
    found = numbering().latest(model, None if is_any else [stage_of(which)])
    if not found:
        of_which = "" if is_any else f" and stage '{which}'"
        raise NotFound(f"No versions of model with name '{name}'{of_which} found")
    return max(found, key=lambda version: version.number)


# What is tracked here


def _of_a_logged_model(source: Source, model_id: str, by: Actor) -> NewVersion:
    """If it is not known here, it is that of another tracking server: it is taken for what it says, and marked."""
    if source.model_id != model_id:
        _not_of(source, "model")
    known = _tracked(source, by)
    return _of_listed(known, model_id, "") if known else _of_elsewhere(source)


def _of_a_run(source: Source, host: str, place: str, by: Actor) -> NewVersion:
    """Likewise."""
    run_id, _, path = place.partition("/")
    if source.model_id:
        _not_of(source, "model")
    if host or not run_id or source.run_id != run_id:
        _not_of(source, "run")
    return _of_listed(source, run_id, path.rstrip("/")) if _tracked(source, by) else _of_elsewhere(source)


def _of_elsewhere(source: Source) -> NewVersion:
    lineage = source.lineage.model_copy(update={"is_resolved": False})
    return NewVersion(lineage=lineage, artifact=External(uri=source.uri))


def _of_a_tree(source: Source, path: str, by: Actor) -> NewVersion:
    """Inside the run or the logged model that the request names."""
    stated = source.model_id or source.run_id
    try:
        place = place_of(path)
    except (NotFound, InvalidInput):
        _not_of(source, source.owner)
    if not isinstance(place, TreePlace) or place.tree_id != stated or (known := _tracked(source, by)) is None:
        _not_of(source, source.owner)
    return _of_listed(known, place.tree_id, place.path)


def _tracked(source: Source, by: Actor) -> Source | None:
    """This, with the run of its logged model, if what the files are to be of is known here."""
    try:
        if not source.model_id:
            tracking().run(source.run_id or "", by)
            return source
        logged = tracking().logged_model(source.model_id, by)
    except NotFound:
        return None
    return source._replace(run_id=source.run_id or logged.source_run_id)


def _of_listed(source: Source, tree_id: str, path: str) -> NewVersion:
    listed = trees().listed(tree_id, path)
    if listed is None:
        raise InvalidParameter(
            f"Invalid model version source: '{source.uri}'. There are no files at it: log the model first."
        )
    tree, changes = listed
    return NewVersion(
        lineage=source.lineage, artifact=tree, changes=changes, relist=lambda: trees().listed(tree_id, path)
    )


# What is refused


def _refuse_relative(source: Source) -> None:
    plain = source.uri
    while (unquoted := unquote_plus(plain)) != plain:
        plain = unquoted
    path = re.sub("/+", "/", _parts(source._replace(uri=plain))[2].rstrip("/"))
    if "\x00" in path or ".." in plain.split("/") or path != posixpath.normpath(path) or not path.startswith("/"):
        raise InvalidParameter(
            f"Invalid model version source: '{source.uri}'. If supplying a source as an http, https, local file path,"
            " ftp, objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path"
            " references present. Please provide an absolute path."
        )


def _refuse_own_bucket(source: Source, scheme: str, host: str) -> None:
    """What is kept here is named by its run, logged model or version: its address would pass by who may see it."""
    if scheme in ("s3", "s3a", "s3n") and host == settings().artifact_bucket:
        raise InvalidParameter(
            f"Invalid model version source: '{source.uri}'. It is in the bucket of this registry: name the version"
            " (models:/name/1), the logged model (models:/m-...) or the run (runs:/...) instead."
        )


def _refuse_local(source: Source, by: Actor) -> NoReturn:
    parameter = PARAMETERS[source.owner]
    if (source.model_id or source.run_id) and not _tracked(source, by):
        _not_of(source, source.owner)
    raise InvalidParameter(
        f"Invalid model version source: '{source.uri}'. To use a local path as a model version source, the {parameter}"
        " request parameter has to be specified and the local path has to be contained within the artifact directory"
        f" of the run specified by the {parameter}."
    )


def _not_of(source: Source, owner: str) -> NoReturn:
    raise InvalidParameter(
        f"Invalid model version source: '{source.uri}'. The {PARAMETERS[owner]} request parameter must identify the"
        " resource that contains the source."
    )
