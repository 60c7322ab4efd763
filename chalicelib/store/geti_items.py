"""What is kept of a Geti server in the registry table, and how it is keyed; schema.py has the table of it.

Ids and names of Geti are foreign text: in keys ids are percent-encoded, so that no separator stands in one, and names
are digests.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable
from datetime import datetime
from typing import Self
from urllib.parse import quote

from pynamodb.attributes import BinaryAttribute, BooleanAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from chalicelib.geti.records import OriginState
from chalicelib.geti.states import Import, ImportedModel, Item, ItemState, Lease, Memory, ProjectState, Run, RunStatus
from chalicelib.registry.models import Head, time_text
from chalicelib.store.keys import META, from_text
from chalicelib.store.schema import RegistryItem

PROJECTS, MODELS, DUE, SLOTS, OWNED_NAMES, FAILED = "P#", "M#", "DUE#", "SLOT#", "NAME#", "FAILED#"


def geti_key(server_id: str) -> str:
    """The partition of a server, and the subject of its events."""
    return f"GETI#{server_id}"


def import_key(import_id: str) -> str:
    return f"IMPORT#{import_id}"


def project_row_key(project_id: str) -> str:
    return f"{PROJECTS}{_part(project_id)}"


def models_of_key(project_id: str) -> str:
    """What the keys of the models of a project begin with."""
    return f"{MODELS}{_part(project_id)}#"


def model_row_key(project_id: str, model_id: str) -> str:
    return f"{models_of_key(project_id)}{_part(model_id)}"


def due_row_key(at: datetime, project_id: str, model_id: str) -> str:
    return f"{DUE}{time_text(at)}#{_part(project_id)}#{_part(model_id)}"


def model_row_of_due_key(due_key: str) -> str:
    """Where the model is that a row of the list is about."""
    return f"{MODELS}{due_key.removeprefix(DUE).partition('#')[2]}"


def slot_key(slot: int) -> str:
    return f"{SLOTS}{slot:02d}"


def owned_name_key(project_id: str, name: str) -> str:
    return f"{OWNED_NAMES}{hashlib.sha256(json.dumps([project_id, name]).encode()).hexdigest()}"


def failures_of_key(run_id: str) -> str:
    """What the keys of all that failed in a run begin with."""
    return f"{FAILED}{run_id}#"


def outcome_key(model_id: str) -> str:
    """Where a request keeps what became of a model."""
    return f"{MODELS}{_part(model_id)}"


def _part(text: str) -> str:
    return quote(text, safe="")


class RunItem(RegistryItem):
    """The current run, or the last one, and what the next is left. What conditions decide by stands beside the record.

    `lessee` is whoever took the lease, once for each time. `seq` and `digest` are those of the newest event.
    """

    run_id = UnicodeAttribute()
    record = UnicodeAttribute()
    last_record = UnicodeAttribute(null=True)
    memory = UnicodeAttribute()
    fence = NumberAttribute()
    leased_until = UnicodeAttribute(null=True)
    lessee = UnicodeAttribute(null=True)
    has_looked = BooleanAttribute()
    finished_at = UnicodeAttribute(null=True)
    progress_at = UnicodeAttribute()
    outstanding = NumberAttribute()
    imported = NumberAttribute()
    failed = NumberAttribute()
    seq = NumberAttribute(null=True)
    digest = UnicodeAttribute(null=True)

    @classmethod
    def begun(cls, server_id: str, run: Run, at: datetime, last: "RunItem | None") -> Self:
        """The item of a new run in place of the last one."""
        return cls(
            geti_key(server_id),
            META,
            run_id=run.id,
            record=run.model_dump_json(),
            last_record=last.record if last else None,
            memory=last.memory if last else Memory().model_dump_json(),
            fence=int(last.fence) + 1 if last else 1,
            has_looked=run.has_looked,
            progress_at=time_text(at),
            outstanding=0,
            imported=0,
            failed=0,
            seq=last.seq if last else None,
            digest=last.digest if last else None,
        )

    def run(self) -> Run:
        return Run.model_validate_json(self.record)

    def last_memory(self) -> Memory:
        return Memory.model_validate_json(self.memory)

    def is_leased(self, at: datetime) -> bool:
        return self.leased_until is not None and self.leased_until >= time_text(at)

    def status(self, at: datetime) -> RunStatus:
        """Without the failures. What a finished run has imported is among its counts."""
        last = Run.model_validate_json(self.last_record) if self.last_record else None
        if self.finished_at:
            return RunStatus(run=self.run(), last=last, is_leased=False)
        counts = {"outstanding": self.outstanding, "imported": self.imported, "failed": self.failed}
        return RunStatus(
            run=self.run(), last=last, is_leased=self.is_leased(at), **{k: int(v) for k, v in counts.items()}
        )

    @property
    def head(self) -> Head:
        return Head(seq=int(self.seq), digest=self.digest) if self.seq and self.digest else Head()


class ProjectItem(RegistryItem):
    """A project as it was looked at last. Compressed, for it names every trained version of it."""

    record = BinaryAttribute(legacy_encoding=False)

    @classmethod
    def of(cls, server_id: str, project: ProjectState) -> Self:
        record = zlib.compress(project.model_dump_json().encode())
        return cls(geti_key(server_id), project_row_key(project.id), record=record)

    def project(self) -> ProjectState:
        return ProjectState.model_validate_json(zlib.decompress(self.record))


class ModelItem(RegistryItem):
    """A model that is imported or was. Its fields are attributes: the sync changes other ones than the import does."""

    project_id = UnicodeAttribute()
    group_id = UnicodeAttribute()
    base_model_id = UnicodeAttribute()
    model_id = UnicodeAttribute()
    state = UnicodeAttribute()
    attempts = NumberAttribute()
    why = UnicodeAttribute(null=True)
    due_at = UnicodeAttribute(null=True)
    run_id = UnicodeAttribute(null=True)
    origin_state = UnicodeAttribute(null=True)
    misses = NumberAttribute(null=True)
    holder = UnicodeAttribute(null=True)
    held_until = UnicodeAttribute(null=True)

    def item(self) -> Item:
        return Item(
            project_id=self.project_id,
            group_id=self.group_id,
            base_model_id=self.base_model_id,
            model_id=self.model_id,
            state=ItemState(self.state),
            attempts=int(self.attempts),
            why=self.why,
            due_at=from_text(self.due_at) if self.due_at else None,
            run_id=self.run_id,
            origin_state=OriginState(self.origin_state or OriginState.PRESENT),
            misses=int(self.misses or 0),
        )


class DueItem(RegistryItem):
    """That a model is to be looked at, at a time: its key says all of it."""

    @classmethod
    def of(cls, pk: str, item: Item, at: datetime) -> Self:
        return cls(pk, due_row_key(at, item.project_id, item.model_id))


class SlotItem(RegistryItem):
    """One of those who may have something sent by Geti at once."""

    holder = UnicodeAttribute()
    held_until = UnicodeAttribute()


class FailedItem(RegistryItem):
    """What failed in a run, until DynamoDB removes it."""

    model_id = UnicodeAttribute()
    why = UnicodeAttribute()
    ttl = NumberAttribute()

    @classmethod
    def of(cls, server_id: str, run_id: str, model: ImportedModel, ttl: datetime) -> Self:
        why = model.why or model.outcome
        key = f"{failures_of_key(run_id)}{_part(model.id)}"
        return cls(geti_key(server_id), key, model_id=model.id, why=why, ttl=int(ttl.timestamp()))


class ImportItem(RegistryItem):
    """A request, by what was asked (`record`), or what became of one of its models (`outcome`, `why`)."""

    record = UnicodeAttribute(null=True)
    outcome = UnicodeAttribute(null=True)
    why = UnicodeAttribute(null=True)
    ttl = NumberAttribute()

    @classmethod
    def rows_of(cls, asked: Import, ttl: datetime) -> list[Self]:
        """Those of its models, and behind them that of the request: until that is there, nothing is."""
        pk, seconds = import_key(asked.id), int(ttl.timestamp())
        models = [cls(pk, outcome_key(one.id), outcome=one.outcome, why=one.why, ttl=seconds) for one in asked.models]
        return [*models, cls(pk, META, record=asked.model_dump_json(), ttl=seconds)]

    @classmethod
    def asked(cls, rows: Iterable[Self]) -> Import | None:
        """The request with its outcomes; None if it is not there."""
        by_key = {row.sk: row for row in rows}
        if META not in by_key:
            return None
        asked = Import.model_validate_json(by_key[META].record or "")
        found = [(model, by_key.get(outcome_key(model.id))) for model in asked.models]
        models = [
            ImportedModel.model_validate({"id": model.id, "outcome": row.outcome, "why": row.why}) if row else model
            for model, row in found
        ]
        return asked.model_copy(update={"models": tuple(models)})


def places_of(item: Item) -> list[Action]:
    """What sets where a model is."""
    names = ("project_id", "group_id", "base_model_id", "model_id")
    return [getattr(ModelItem, name).set(getattr(item, name)) for name in names]


def states_of(item: Item) -> list[Action]:
    """What sets how far a model has come."""
    due_at = time_text(item.due_at) if item.due_at else None
    return [
        ModelItem.state.set(item.state.value),
        ModelItem.attempts.set(item.attempts),
        ModelItem.why.set(item.why) if item.why else ModelItem.why.remove(),
        ModelItem.due_at.set(due_at) if due_at else ModelItem.due_at.remove(),
    ]


def outcome_of(outcome: ImportedModel) -> list[Action]:
    """What sets what became of a model of a request."""
    why = ImportItem.why.set(outcome.why) if outcome.why else ImportItem.why.remove()
    return [ImportItem.outcome.set(outcome.outcome), why]


def is_leased_by(lease: Lease) -> Condition:
    """The run of the lease is not over, nobody took it since, and it was not let go of."""
    condition: Condition = (RunItem.fence == lease.fence) & RunItem.leased_until.exists()
    return condition


def is_unfinished(run_id: str) -> Condition:
    condition: Condition = (RunItem.run_id == run_id) & RunItem.finished_at.does_not_exist()
    return condition


def is_pending() -> Condition:
    condition: Condition = ImportItem.outcome == "pending"
    return condition


def is_free(item: type[ModelItem] | type[SlotItem], holder: str, at: datetime) -> Condition:
    """Nobody else holds it at this time."""
    condition: Condition = item.holder.does_not_exist() | (item.holder == holder) | (item.held_until < time_text(at))
    return condition
