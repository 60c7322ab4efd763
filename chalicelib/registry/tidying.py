"""What is left to do when a registered model was renamed or deleted: its versions bear its name, or go with it.

A few are done by the request itself; an errand does the rest, in steps that may be repeated. What was left for later
is remembered until it is done, so that a sweep makes up for errands that were lost.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib.registry.access import Actor
from chalicelib.registry.audit import Action
from chalicelib.registry.errands import ErrandKind
from chalicelib.registry.errors import NotFound

if TYPE_CHECKING:
    from chalicelib.registry.errands import Errand, Errands
    from chalicelib.registry.ports import Blobs, Catalog
    from chalicelib.registry.service import Announce

TIDY = Actor(kind="system", name="tidy")
REMOVED_AT_ONCE = 50  # numbers that are read in one call
Left = Callable[[], bool]


class Tidying:
    """Does errands for registered models."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        errands: Callable[[], Errands],
        clock: Callable[[], datetime],
        announce: Announce,
    ) -> None:
        self._catalog = catalog
        self._models = catalog.registered_models
        self._blobs = blobs
        self._errands = errands
        self._clock = clock
        self._announce = announce

    def run(self, errand: Errand, is_time_left: Left) -> None:
        """Do it, or as much as there is time for and leave the rest to another one. Raises Unavailable."""
        step = self._remove_some if errand.kind == ErrandKind.REMOVE_VERSIONS else self._rename_some
        while step(errand.subject):
            if not is_time_left():
                self._errands().queue(errand)
                return
        self._models.done(errand)

    def _rename_some(self, rm_id: str) -> bool:
        return self._models.refresh(rm_id, TIDY, self._clock())

    def _remove_some(self, rm_id: str) -> bool:
        numbers = self._models.numbers(rm_id, REMOVED_AT_ONCE)
        for _, model_id in numbers:
            # Gone already, or gone elsewhere.
            with suppress(NotFound):
                removed, key = self._catalog.remove(model_id, TIDY, self._clock(), of=rm_id)
                if key:
                    self._blobs.remove(key)
                self._announce(Action.VERSION_DELETED, removed, None, TIDY)
        return len(numbers) == REMOVED_AT_ONCE
