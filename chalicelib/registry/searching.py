"""Searches of registered models and of versions, as MLflow's clients ask for them: filter, order, pages.

A page token is a position, bound to what was asked for: a page is not shifted by what comes or goes before it.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Protocol

from chalicelib.registry.access import Access, Actor
from chalicelib.registry.curating import prefix_of
from chalicelib.registry.errors import InvalidInput
from chalicelib.registry.filter_grammar import parse_filter
from chalicelib.registry.filters import MODELS, VERSIONS, Clause, holds, tags_hold
from chalicelib.registry.models import Frozen, ModelVersion
from chalicelib.registry.registered_models import PROMPT_TAG, RegisteredModel, shown_name, shown_source
from chalicelib.registry.search_order import (
    MODEL_ORDERS,
    NEWEST_FIRST,
    VERSION_ORDERS,
    By,
    Position,
    Value,
    order_of,
    place_of,
)

MAX_MODELS, MAX_VERSIONS = 1_000, 200_000
MAX_PAGE = 10_000  # versions on a page, as MLflow's client asks for; the token goes on
MAX_TOKEN = 8_000
MAX_NAME = 1_000  # characters of a name in a token; no exposed name has so many
MAX_NUMBER = 10**15 - 1  # milliseconds in fifteen digits; numbers of versions have less


class Query(Frozen):
    """What is searched for: all clauses must hold. `order` tells any two apart."""

    clauses: tuple[Clause, ...] = ()
    order: tuple[By, ...]
    limit: int
    after: Position | None = None

    @property
    def wants_prompts(self) -> bool:
        """Whether it asks for prompts, which are left out otherwise."""
        first = next((clause for clause in self.clauses if is_about_prompts(clause)), None)
        return first is not None and (first.comparator, str(first.value).lower()) in (("=", "true"), ("!=", "false"))

    @property
    def told(self) -> tuple[Clause, ...]:
        """The clauses that have to hold: of prompts nothing else is asked, if they are left out."""
        return tuple(one for one in self.clauses if self.wants_prompts or not is_about_prompts(one))

    @property
    def tag_clauses(self) -> tuple[Clause, ...]:
        return tuple(clause for clause in self.told if clause.entity == "tag")

    def of_attribute(self, key: str) -> tuple[Clause, ...]:
        return tuple(clause for clause in self.told if (clause.entity, clause.key) == ("attribute", key))

    def finds(self, found: RegisteredModel | ModelVersion) -> bool:
        """Whether all that was asked holds of it."""
        is_prompt = found.tags.get(PROMPT_TAG) == "true"
        attributes = attributes_of(found)
        return (
            (self.wants_prompts or not is_prompt)
            and all(holds(one, attributes[one.key]) for one in self.told if one.entity == "attribute")
            and tags_hold(self.told, found.tags)
        )


class ModelSearch(Protocol):
    """Finds what there is. A page may end early, with a position.

    Nothing that `within` does not see has a part in it.
    """

    def models(self, query: Query, within: Access) -> tuple[Sequence[RegisteredModel], Position | None]:
        """In the order of the query, from behind its position; and where to go on, if there may be more."""

    def versions(self, query: Query, within: Access) -> tuple[Sequence[ModelVersion], Position | None]:
        """Likewise. Raises InvalidInput for an order in which there are too many."""


class Searching:
    """Answers searches, for who may see what."""

    def __init__(self, found: ModelSearch) -> None:
        self._found = found

    def models(
        self, filter_: str, order_by: Sequence[str], max_results: int, page_token: str | None, by: Actor
    ) -> tuple[Sequence[RegisteredModel], str | None]:
        """A page of registered models, and the token of the next. Raises InvalidInput."""
        query = _models_query(filter_, order_by, max_results, by)
        found, go_on = self._found.models(after_token(query, page_token), by.access)
        return found, token_of(query, go_on)

    def versions(
        self, filter_: str, order_by: Sequence[str], max_results: int, page_token: str | None, by: Actor
    ) -> tuple[Sequence[ModelVersion], str | None]:
        """A page of versions, likewise."""
        _check_limit(max_results, MAX_VERSIONS)
        clauses = _meant(parse_filter(filter_, VERSIONS), by.access)
        order = order_of(order_by, VERSION_ORDERS) if order_by else NEWEST_FIRST
        query = Query(clauses=clauses, order=order, limit=min(max_results, MAX_PAGE))
        found, go_on = self._found.versions(after_token(query, page_token), by.access)
        return found, token_of(query, go_on)

    def token_behind(self, last: RegisteredModel, filter_: str, order_by: Sequence[str], by: Actor) -> str:
        """The token of what comes after a registered model, where an answer had no room for all of a page."""
        query = _models_query(filter_, order_by, 1, by)
        return str(token_of(query, place_of(last, query.order)))


def _models_query(filter_: str, order_by: Sequence[str], max_results: int, by: Actor) -> Query:
    _check_limit(max_results, MAX_MODELS)
    clauses = _meant(parse_filter(filter_, MODELS), by.access)
    return Query(clauses=clauses, order=order_of(order_by, MODEL_ORDERS), limit=max_results)


def _meant(clauses: Sequence[Clause], access: Access) -> tuple[Clause, ...]:
    """The clauses, with names as the caller may state them: without its project in front, if it sees one only."""
    prefix = prefix_of(access)
    if prefix is None:
        return tuple(clauses)
    return tuple(_in_full(clause, prefix) if clause.key == "name" else clause for clause in clauses)


def _in_full(clause: Clause, prefix: str) -> Clause:
    if clause.entity == "tag" or clause.comparator not in ("=", "!=", "IN", "NOT IN"):
        return clause
    values = (*clause.values, *(f"{prefix}{value}" for value in clause.values))
    comparator = "IN" if clause.comparator in ("=", "IN") else "NOT IN"
    return clause.model_copy(update={"comparator": comparator, "values": values})


def is_about_prompts(clause: Clause) -> bool:
    return (clause.entity, clause.key) == ("tag", PROMPT_TAG)


def attributes_of(found: RegisteredModel | ModelVersion) -> Mapping[str, Value | None]:
    """What a filter may compare, as answers show it."""
    if isinstance(found, RegisteredModel):
        return {"name": found.exposed_name}
    lineage = found.lineage
    return {
        "name": shown_name(found),
        "version_number": found.number,
        "run_id": lineage.run_id or "" if lineage else None,
        "source_path": shown_source(found),
    }


def _check_limit(max_results: int, most: int) -> None:
    if max_results < 1:
        raise InvalidInput(
            "max_results", f"Invalid value for max_results. It must be a positive integer, but got {max_results}"
        )
    if max_results > most:
        raise InvalidInput(
            "max_results",
            f"Invalid value for request parameter max_results. It must be at most {most}, but got value {max_results}",
        )


# Page tokens


def token_of(query: Query, position: Position | None) -> str | None:
    """A position in what this query finds, as a token."""
    if position is None:
        return None
    content = json.dumps([_fingerprint(query), *position], ensure_ascii=False)
    return base64.urlsafe_b64encode(content.encode()).decode()


def after_token(query: Query, token: str | None) -> Query:
    """The query from behind the position of a token. Raises InvalidInput for what is no token of it."""
    if not token:
        return query
    try:
        if len(token) > MAX_TOKEN:
            raise ValueError("too long")
        content: Any = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        fingerprint, *position = content
    except (ValueError, TypeError, RecursionError) as exc:
        raise InvalidInput("page_token", "Invalid page token, could not base64-decode") from exc
    if fingerprint != _fingerprint(query) or not _is_position(position, query.order):
        raise InvalidInput("page_token", "Invalid page token: it is of another search; ask as for the page before.")
    return query.model_copy(update={"after": tuple(position)})


def _is_position(values: Sequence[Any], order: Sequence[By]) -> bool:
    return len(values) == len(order) and all(map(_is_value, values, order))


def _is_value(value: Any, part: By) -> bool:
    if part.field != "name":
        return type(value) is int and -1 <= value <= MAX_NUMBER
    return isinstance(value, str) and len(value) <= MAX_NAME and not any("\ud800" <= one <= "\udfff" for one in value)


def _fingerprint(query: Query) -> str:
    asked = query.model_dump_json(include={"clauses", "order"})
    return sha256(asked.encode()).hexdigest()[:16]
