"""The registry as Python calls it: one class, typed answers, errors that say what to do next.

Safe to use from several threads. Transfers go straight to and from S3; see upload.py and download.py for what they
promise. Lists are iterators that ask for the next page when it is needed.
"""

import builtins
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, Self

import httpx

from modelreg.download import fetch
from modelreg.errors import Ambiguous, ConnectionFailed, InvalidInput, NotARegistry, NotFound, Unavailable
from modelreg.fields import CHANGEABLE, FILTERS, METADATA, as_json, check_names, form_text, named_project, stated
from modelreg.geti import GetiCalls
from modelreg.http import MAX_PAGE, Api, page_query, segment
from modelreg.models import (
    Changed,
    Checkpoint,
    Decision,
    Event,
    Health,
    Manifest,
    ManifestFile,
    Model,
    NewToken,
    Project,
    RegisteredModel,
    Token,
)
from modelreg.progress import Progress, Silence
from modelreg.retry import Attempts, Patience
from modelreg.source import survey
from modelreg.storage import Outcome, Storage, StorageRefusal
from modelreg.times import sent_moment
from modelreg.tokens import id_of, without_secret
from modelreg.transfer import Transfer
from modelreg.upload import publish

SHOWN_VERSIONS = 10
MAX_CHECKPOINTS = 100  # on a page
MAX_CHECKPOINT_BYTES = 5 * 1024**3  # S3 takes no more at once


class Registry(GetiCalls):
    """A model registry at a base URL. What is about Geti is in geti.py.

    token: sent as a bearer token; a URL may carry `user:token@` instead. parallel: threads of one transfer.
    transport: replaces the network, patience: clock and waits; both for tests.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 30,
        parallel: int = 4,
        transport: httpx.BaseTransport | None = None,
        patience: Patience | None = None,
    ) -> None:
        if parallel < 1:
            raise InvalidInput(f"parallel is {parallel}; it must be at least 1.", field="parallel")
        self._patience = patience or Patience()
        self._parallel = parallel
        self._api = Api(url, token, timeout_seconds=timeout, patience=self._patience, transport=transport)
        self._storage = Storage(timeout_seconds=timeout, parallel=parallel, transport=transport)

    def __repr__(self) -> str:
        return f"Registry({self._api.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The base URL, without credentials."""
        return self._api.url

    def close(self) -> None:
        self._api.close()
        self._storage.close()

    def health(self) -> None:
        """Returns if a registry answers there."""
        health = self._api.answer(Health, "GET", "/health")
        if health.status != "ok":
            raise NotARegistry(f"{self._api.url} says that it is {health.status!r}, not ok.")

    def register(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        version: str,
        progress: Progress | None = None,
        **metadata: Any,
    ) -> Model:
        """Publishes a file as it is, or a directory as a ZIP; returns the model once it is READY.

        metadata: id, project_id, project_name, precision, format, target_device, target_device_type, category,
        architecture, score, overview, optimization_capabilities, labels, origin, created_date, description, tags.
        Called again after it was interrupted, with the same arguments, it goes on where it stopped.
        """
        check_names(metadata, METADATA, "field")
        fields = {"name": name, "version": version, **metadata}
        fields = {key: as_json(key, value) for key, value in fields.items() if value is not None}
        return publish(self._transfer(progress), survey(path), fields)

    upload = register

    def download(
        self,
        model_id: str,
        target: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Fetches an artifact; returns the path it was written to.

        target: a file, or a directory (one that exists, or ends in a slash) to hold it under its own name. Called
        again after it was interrupted, it goes on where it stopped.
        """
        text = os.fspath(target)
        if not text or "\0" in text:
            raise InvalidInput(
                "The target is empty, or none.", field="target", hint="Name a file or a directory; . is this one."
            )
        is_folder = text.endswith(("/", os.sep))
        model = self.get(model_id)
        return fetch(self._transfer(progress), model, Path(text), is_folder=is_folder, overwrite=overwrite)

    def _transfer(self, progress: Progress | None) -> Transfer:
        return Transfer(self._api, self._storage, self._patience, self._parallel, progress or Silence())

    def get(self, model_id: str) -> Model:
        return self._api.answer(Model, "GET", f"/models/{segment(model_id)}")

    def list(self, *, limit: int | None = None) -> Iterator[Model]:
        """Every model, newest published first; limit: at most so many."""
        return self.search(limit=limit)

    def search(self, *, limit: int | None = None, tags: Mapping[str, str] = {}, **filters: str) -> Iterator[Model]:
        """The models that pass all filters, newest published first.

        name, project_name, category, architecture, precision: substring, any case; origin, format: equal, any case;
        version, tags: equal.
        """
        check_names(filters, FILTERS, "filter")
        query = page_query(limit)
        query |= {name: value for name, value in filters.items() if value is not None}
        query |= {f"tag.{key}": value for key, value in tags.items()}
        return islice(self._models(query), limit)

    def _models(self, query: Mapping[str, str]) -> Iterator[Model]:
        try:
            for page in self._api.pages(builtins.list[Model], "/models", query):
                yield from page
        except NotFound:
            # So the registry says that none passes the filters; without one, what answered is no registry.
            if not query.keys() - {"limit"}:
                raise

    def update(self, model_id: str, *, if_revision: int | None = None, **fields: Any) -> Model:
        """Replaces fields; None clears one. if_revision: only while the model is at that revision."""
        check_names(fields, CHANGEABLE, "field")
        if not fields:
            raise InvalidInput("No field was given to change.")
        headers = {"If-Match": f'"{if_revision}"'} if if_revision is not None else {}
        form = {name: form_text(name, value) for name, value in fields.items()}
        path = f"/models/{segment(model_id)}"
        # Repeated after a lost answer, a change with a condition would fail on its own success.
        self._api.answer(Changed, "PUT", path, data=form, headers=headers, repeats=if_revision is None)
        return self.get(model_id)

    def delete(self, model_id: str) -> None:
        self._api.delete(f"/models/{segment(model_id)}")

    def manifest(self, model_id: str) -> Manifest:
        """What the artifact holds: all files, however many pages they are on."""
        pages = self._api.pages(Manifest, f"/models/{segment(model_id)}/manifest", {})
        first = next(pages)
        files: builtins.list[ManifestFile] = [*first.files]
        for page in pages:
            files += page.files
        return first.model_copy(update={"files": files})

    def registered_models(self, *, limit: int | None = None) -> Iterator[RegisteredModel]:
        """Every registered model, in order of name, without its versions."""
        pages = self._api.pages(builtins.list[RegisteredModel], "/registered-models", page_query(limit))
        return islice((found for page in pages for found in page), limit)

    def registered_model(self, name: str) -> RegisteredModel:
        """One registered model with its latest version and the first page of its versions."""
        return self._registered(name)

    def _registered(self, name: str, **narrowed: str) -> RegisteredModel:
        return self._api.answer(RegisteredModel, "GET", "/registered-models", params={"name": stated(name), **narrowed})

    def versions(self, name: str, *, version: str | None = None) -> Iterator[Model]:
        """The versions of a registered model, highest number first; version: those with this label."""
        query = {"name": stated(name)} | ({"version": version} if version is not None else {})
        for page in self._api.pages(RegisteredModel, "/registered-models", query):
            yield from page.versions

    def resolve(
        self, name: str, *, version: str | None = None, alias: str | None = None, precision: str | None = None
    ) -> Model:
        """The one version that is meant: by label (else by number), by alias, or else the latest.

        Raises NotFound, which says what there is, and Ambiguous where several precisions share the label.
        """
        if version is not None and alias is not None:
            raise InvalidInput("Give a version or an alias, not both.", field="alias")
        if alias is not None:
            return self._by_alias(name, alias, precision)
        if version is not None:
            return self._by_version(name, version, precision)
        if precision is not None:
            found = next((model for model in self.versions(name) if _has(model, precision)), None)
        else:
            found = self._registered(name, limit="1").latest
        return found or self._refuse(name, f"no version{_of_precision(precision)}")

    def _by_alias(self, name: str, alias: str, precision: str | None) -> Model:
        registered = self._registered(name, alias=alias)
        found = [model for model in registered.versions if _has(model, precision)]
        if not found:
            there = ", ".join(sorted(registered.aliases)) or "none"
            what = f"no alias {alias!r}{_of_precision(precision)}"
            raise NotFound(f"{name} has {what}. Its aliases: {there}.")
        return found[0]

    def _by_version(self, name: str, version: str, precision: str | None) -> Model:
        found = [model for model in self.versions(name, version=version) if _has(model, precision)]
        if not found and version.isascii() and version.isdigit():
            numbered = self._registered(name, number=str(int(version))).versions
            found = [model for model in numbered if _has(model, precision)]
        if len(found) > 1:
            listed = "; ".join(f"{model.id} ({version}, {', '.join(model.precision or [])})" for model in found)
            raise Ambiguous(f"{name} has several versions {version!r}: {listed}.", candidates=found)
        return found[0] if found else self._refuse(name, f"no version {version!r}{_of_precision(precision)}")

    def _refuse(self, name: str, what: str) -> Model:
        """Raises NotFound, saying what there is instead."""
        there = builtins.list(islice(self.versions(name), SHOWN_VERSIONS + 1))
        listed = ", ".join(f"{model.version} ({', '.join(model.precision or [])})" for model in there[:SHOWN_VERSIONS])
        more = ", ..." if len(there) > SHOWN_VERSIONS else ""
        raise NotFound(f"{name} has {what}. Its versions: {listed or 'none'}{more}.")

    def aliases(self, name: str) -> dict[str, int]:
        """The number that each alias points at."""
        return self._registered(name, limit="1").aliases

    def set_alias(self, name: str, alias: str, number: int) -> RegisteredModel:
        """Points the alias at the version of this number, wherever it pointed before."""
        return self._edited({"name": stated(name), "aliases": {alias: number}})

    def remove_alias(self, name: str, alias: str) -> RegisteredModel:
        return self._edited({"name": stated(name), "aliases": {alias: None}})

    def edit_registered_model(
        self,
        name: str,
        *,
        description: str | EllipsisType | None = ...,
        tags: Mapping[str, str | None] | EllipsisType = ...,
    ) -> RegisteredModel:
        """Replaces the description (None clears it) and merges tags (None removes one). What is not given stays."""
        body: dict[str, Any] = {"name": stated(name)}
        if description is not ...:
            body["description"] = description
        if tags is not ...:
            body["tags"] = dict(tags)
        return self._edited(body)

    def _edited(self, body: dict[str, Any]) -> RegisteredModel:
        return self._api.answer(RegisteredModel, "PATCH", "/registered-models", json=body)

    def abort_upload(self, upload_id: str) -> None:
        """Drops an unfinished upload and what was sent of it."""
        self._api.delete(f"/uploads/{segment(upload_id)}")

    def create_token(
        self,
        name: str,
        role: str,
        *,
        projects: Iterable[Project | Mapping[str, str]] | None = None,
        name_prefixes: Iterable[str] | None = None,
        expires_at: datetime | None = None,
    ) -> NewToken:
        """A new token of role viewer, publisher or admin; its text is shown this once. Only admins may.

        projects: only there, each by its id, its name or both, as its models state them. name_prefixes: only models
        whose names begin so. Without them it is not limited, without expires_at it does not end.
        """
        body: dict[str, Any] = {"name": stated(name), "role": role}
        if projects is not None:
            body["projects"] = [named_project(project) for project in projects]
        if name_prefixes is not None:
            body["name_prefixes"] = builtins.list(name_prefixes)
        if expires_at is not None:
            body["expires_at"] = sent_moment("expires_at", expires_at)
        try:
            # Repeated after a lost answer, it would make a second token, and nobody knew the first.
            return self._api.answer(NewToken, "POST", "/tokens", json=body, repeats=False)
        except (ConnectionFailed, Unavailable) as exc:
            exc.hint += (
                f" Look for {name!r} in the list of tokens first: created after all, its text is lost; revoke it."
            )
            raise

    def tokens(self, *, limit: int | None = None) -> Iterator[Token]:
        """Every token, without its text. Only admins may."""
        pages = self._api.pages(builtins.list[Token], "/tokens", page_query(limit))
        return islice((found for page in pages for found in page), limit)

    def token(self, token_id: str) -> Token:
        """What is known of a token. Of a whole token, here and below, only the id is used and sent."""
        return self._api.answer(Token, "GET", f"/tokens/{id_of(token_id)}")

    def revoke_token(self, token_id: str) -> None:
        """Ends a token for good, within a minute; nothing happens if it was revoked before."""
        self._api.delete(f"/tokens/{id_of(token_id)}")

    def can(
        self,
        token_id: str,
        action: str,
        model_id: str | None = None,
        *,
        name: str | None = None,
        project_id: str | None = None,
        project_name: str | None = None,
    ) -> Decision:
        """Whether a token may do something, and the rule that decides. Only admins may ask.

        action: read, register, update, alias, delete, tokens or sync; the first five with a model, by its id, or by a
        name and project that need not exist yet.
        """
        if model_id is not None and (name, project_id, project_name) != (None, None, None):
            raise InvalidInput("Give the id of a model, or a name and project, not both.", field="model_id")
        query = {
            "action": action, "model_id": model_id, "name": name, "project_id": project_id,
            "project_name": project_name,
        }  # fmt: skip
        given = {key: value for key, value in query.items() if value is not None}
        return self._api.answer(Decision, "GET", f"/tokens/{id_of(token_id)}/access", params=given)

    def events(
        self,
        model_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Event]:
        """The trail, newest first: of one model, also of one that was deleted, or of all that the token may see.

        since is part of the time asked for, until is not. actor: the name or the id of a token. subject: the id of a
        model, registered model or token.
        """
        if model_id is not None and subject is not None:
            raise InvalidInput("Give a model or a subject, not both.", field="subject")
        filters = {"actor": actor, "action": action, "subject": subject}
        moments = {"since": since, "until": until}
        query = {name: without_secret(value) for name, value in filters.items() if value is not None}
        query |= {name: sent_moment(name, value) for name, value in moments.items() if value is not None}
        path = "/events"
        if model_id is not None and query:
            query["subject"] = f"MODEL#{model_id}"
        elif model_id is not None:
            path = f"/models/{segment(model_id)}/events"
        pages = self._api.pages(builtins.list[Event], path, query | page_query(limit))
        return islice((found for page in pages for found in page), limit)

    def event_documents(
        self, *, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[dict[str, Any]]:
        """The trail, newest first, exactly as the registry tells it: what a digest covers, and nothing left out."""
        moments = {"since": since, "until": until}
        query = {name: sent_moment(name, value) for name, value in moments.items() if value is not None}
        pages = self._api.pages(builtins.list[dict[str, Any]], "/events", query | page_query(MAX_PAGE))
        return (document for page in pages for document in page)

    def checkpoints(self, *, limit: int | None = None) -> Iterator[Checkpoint]:
        """The checkpoints of the trail, newest first. Only admins may."""
        query = {"limit": str(min(limit, MAX_CHECKPOINTS))} if limit else {}
        pages = self._api.pages(builtins.list[Checkpoint], "/checkpoints", query)
        return islice((found for page in pages for found in page), limit)

    def read_checkpoint(self, checkpoint: Checkpoint) -> bytes:
        """The file of a checkpoint, as it is stored. To be read within the hour in which it was listed."""
        attempts = Attempts(self._patience, self._patience.call_attempts)
        while True:
            try:
                with self._storage.get(checkpoint.url, 0, MAX_CHECKPOINT_BYTES) as response:
                    content: bytes = response.read()
                    return content
            except StorageRefusal as exc:
                error = ConnectionFailed(f"{checkpoint.key} could not be fetched: {exc.reason}.")
                if exc.outcome is not Outcome.TRANSIENT:
                    raise error from None
                attempts.failed(error, exc.retry_after_seconds)


def _has(model: Model, precision: str | None) -> bool:
    return precision is None or precision.lower() in [stated.lower() for stated in model.precision or []]


def _of_precision(precision: str | None) -> str:
    return f" of precision {precision}" if precision else ""
