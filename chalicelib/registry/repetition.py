"""A request that is repeated because its answer was lost: how its work is known again, and what is kept of it. Pure.

A request is what its caller says it is: the same key with the same content. Its digest goes into the events of what it
does, so that its work is known as its own whatever else was lost.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from chalicelib.registry.errors import Conflict
from chalicelib.registry.models import Frozen

if TYPE_CHECKING:
    from chalicelib.registry.access import Actor
    from chalicelib.registry.models import Draft
    from chalicelib.registry.ports import Catalog

DIGEST_CHARACTERS = 32  # 128 bits: nobody finds two requests of one digest


class Deadline(Protocol):
    """When whoever works on a request is ended: the context of a Lambda function."""

    def get_remaining_time_in_millis(self) -> float: ...


class Outcome(Frozen):
    """What a request came to: the status and the id of what it made, or the conflict that it met.

    Never a body, a token or a URL: an answer is made anew of what is there.
    """

    status: int
    id: str | None = None
    code: str | None = None
    holder: str | None = None
    upload_id: str | None = None

    @classmethod
    def of_conflict(cls, conflict: Conflict) -> Outcome:
        return cls(status=409, code=conflict.code, holder=conflict.holder, upload_id=conflict.upload_id)

    @property
    def conflict(self) -> Conflict | None:
        return Conflict(self.holder or "", self.upload_id) if self.code == Conflict.code else None


def request_digest(key: Sequence[str], content: Mapping[str, Any]) -> str:
    """Of the key and the content, since a key is free again after a day: what it did before is not what it does now."""
    text = json.dumps([list(key), content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def id_for(digest: str) -> str:
    """The id that a request gives what it makes, if its caller states none; in the form of all such ids, a UUID4."""
    return str(uuid.UUID(digest, version=4))


def is_own_work(catalog: Catalog, conflict: Conflict, draft: Draft, by: Actor) -> bool:
    """Whether what stands in the way of a draft was put there by the same request, which is being repeated."""
    if by.idempotency is None or conflict.holder != draft.id:
        return False
    begun_by = catalog.begun_by(draft.id)
    return begun_by is not None and begun_by.idempotency == by.idempotency
