"""One item at a time: sees it with its counterparts, has it judged, makes sure, and repairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from chalicelib.registry.audit import BrokenChain
from chalicelib.registry.doctor import Finding, Kind, in_words
from chalicelib.registry.models import Frozen, Head, ModelVersion, time_text
from chalicelib.registry.ports import Blobs
from chalicelib.store.doctor import objects, records, rows
from chalicelib.store.doctor.chains import Piece, follow
from chalicelib.store.doctor.contents import model_at, name_at, run_at, token_at, tombstone_at, tracked_at, upload_at
from chalicelib.store.doctor.tables import MAX_READ, Tables
from chalicelib.store.doctor.views import Diagnosis, Key, View, in_events, in_registry
from chalicelib.store.geti_items import DUE, FAILED, MODELS, OWNED_NAMES, PROJECTS, SLOTS
from chalicelib.store.held_items import held_key
from chalicelib.store.keys import META, NAMES, PENDING, TOKENS, UPLOADS, registered_model_key
from chalicelib.store.schema import TAGS
from chalicelib.store.search_rows import MODELS_BY_CHANGE, MODELS_BY_NAME, VERSIONS_BY_CHANGE
from chalicelib.store.tracking_items import EXPERIMENT, EXPERIMENT_NAME, EXPERIMENTS, KINDS, LOGGED_MODEL, RUN
from chalicelib.store.transactions import RawItem
from chalicelib.store.tree_items import FILES, TREE, TREE_UPLOADS, TreeFileItem

MAX_LOOKS = 6  # until nothing more is wanted
MAX_ATTEMPTS = 3
ALIASES_AT_ONCE = 20
Judge = Callable[[View, Key], list[Diagnosis]]

# Of pk and of sk: the beginning, which for some is all. What has no judge is right whatever it holds.
JUDGES: Sequence[tuple[str, str, Judge | None]] = (
    ("MODEL#", META, records.judge_model),
    ("MODEL#", TAGS, rows.judge_tags),
    ("NAME#", META, records.judge_name),
    ("NAME#", TAGS, rows.judge_tags),
    ("UPLOAD#", META, records.judge_upload),
    ("TOKEN#", META, records.judge_token),
    ("RM#", "NAME", rows.judge_pointer_row),
    ("RM#", "V#", rows.judge_number_row),
    ("CATALOG#", "", rows.judge_catalogue_row),
    ("PROJECT#", "", rows.judge_catalogue_row),
    ("EXTERNAL#", "", rows.judge_catalogue_row),
    ("EXTERNAL-PROJECT#", "", rows.judge_catalogue_row),
    (f"{VERSIONS_BY_CHANGE}#", "", rows.judge_version_row),
    (VERSIONS_BY_CHANGE, "", rows.judge_version_row),
    (f"{MODELS_BY_NAME}#", "", rows.judge_model_row),
    (MODELS_BY_NAME, "", rows.judge_model_row),
    # Hints: who reads them makes sure, and passes over what is not so any more.
    *((pk, "", None) for pk in (f"{MODELS_BY_CHANGE}#", MODELS_BY_CHANGE, "TAGGED#")),
    # An errand that is done, or that nobody needs, does no harm.
    (PENDING, "", None),
    *((pk, META, records.judge_tracked) for pk in (EXPERIMENT, RUN, LOGGED_MODEL)),
    # What was measured, and where it is found: without an experiment, a run or a logged model nothing leads to it.
    *((pk, "", None) for pk in (EXPERIMENT, RUN, LOGGED_MODEL, EXPERIMENT_NAME, f"{EXPERIMENTS}#", EXPERIMENTS)),
    ("HELD#", META, rows.judge_held),
    ("TREE#", FILES, rows.judge_tree_file),
    # Uploads end by themselves. Without its tree a file is found, and without its seal a version.
    *(("TREE#", sk, None) for sk in (META, TREE_UPLOADS)),
    # What was made on demand and has gone is made again.
    ("ZIP#", META, None),
    ("FILES#", META, None),
    (f"{NAMES}#", "", rows.judge_names_row),
    (NAMES, "", rows.judge_names_row),
    (UPLOADS, "", rows.judge_upload_row),
    (TOKENS, "", rows.judge_token_row),
    ("CLAIM#", META, rows.judge_claim_item),
    ("SWEEP", META, None),
    ("BOOTSTRAP", META, None),
    ("IDEMPOTENCY#", "", None),
    ("GETI#", META, records.judge_run),
    ("GETI#", MODELS, records.judge_geti_model),
    ("GETI#", DUE, rows.judge_due_row),
    *(("GETI#", sk, None) for sk in (PROJECTS, SLOTS, OWNED_NAMES, FAILED)),
    ("IMPORT#", META, None),
    ("IMPORT#", MODELS, None),
)
COUNTED = {"MODEL#": "models", "NAME#": "registered_models", "UPLOAD#": "uploads", "TOKEN#": "tokens"}
# `models` are versions, holds and tombstones; `rows` what belongs to them and the others. `undecided` are in use: they
# changed as often as they were looked at.
LOOKED_AT = ("items", *COUNTED.values(), "rows", "objects", "objects_without_checksum", "chains", "events", "subjects")
COUNTS = (*LOOKED_AT, "undecided")


class ChainPosition(Frozen):
    """A chain that was followed up to here. `pk` is that of the item with its head."""

    pk: str
    subject: str
    seq: int
    digest: str


@dataclass
class Examined:
    """What came of one item. `chain` is what is left to follow."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    chain: ChainPosition | None = None

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def add_to(self, counts: dict[str, int]) -> None:
        for what, number in self.counts.items():
            counts[what] = counts.get(what, 0) + number


class Examiner:
    """Examines items, in any number of threads at once."""

    def __init__(self, tables: Tables, blobs: Blobs, is_repairing: bool, chain_events: int) -> None:
        self._tables = tables
        self._blobs = blobs
        self._is_repairing = is_repairing
        self._chain_events = chain_events

    def examine(self, key: Key, scanned: RawItem) -> Examined:
        """Judge an item of the registry table, and repair what is wrong, if told to. Raises Unavailable."""
        examined = Examined()
        examined.count("items")
        record = next((name for prefix, name in COUNTED.items() if key.pk.startswith(prefix)), "rows")
        examined.count(record if key.sk == META else "rows")
        judge = judge_of(key)
        if judge is None:
            return examined
        for attempt in range(MAX_ATTEMPTS):
            seen = self._settled(judge, key, scanned)
            if seen is None:
                examined.count("undecided")
                return examined
            view, diagnoses = seen
            diagnoses += self._judged_by_reading_on(view, key, examined, diagnoses)
            if not self._repaired(view, diagnoses, examined, is_last=attempt == MAX_ATTEMPTS - 1):
                break
        return examined

    def examine_subject(self, key: Key, scanned: RawItem) -> Examined:
        """Judge whether the subject of an event has a head. Raises Unavailable."""
        examined = Examined()
        examined.count("subjects")
        seen = self._settled(rows.judge_subject, key, scanned)
        if seen:
            self._repaired(*seen, examined, is_last=True)
        else:
            examined.count("undecided")
        return examined

    def follow_on(self, position: ChainPosition) -> Examined:
        """One more piece of a chain. Raises Unavailable."""
        examined = Examined()
        key = Key("registry", position.pk, META)
        view = self._tables.read([key])
        if head := _head_in(view, key):
            last = Head(seq=position.seq, digest=position.digest)
            diagnoses = self._judge_chain(key, position.subject, last, head[1], examined)
            self._repaired(view, diagnoses, examined, is_last=True)
        return examined

    def _settled(self, judge: Judge, key: Key, scanned: RawItem) -> tuple[View, list[Diagnosis]] | None:
        """The item as it is now, with all that was wanted to judge it, and the judgement.

        None if it changes all the time, in which case it is in use.
        """
        first = View({key: scanned})
        judge(first, key)
        wanted = {key} | first.wanted
        for _ in range(MAX_LOOKS):
            if len(wanted) > MAX_READ:
                return None
            view = self._tables.read(wanted)
            diagnoses = judge(view, key)
            if not view.wanted:
                return view, diagnoses
            wanted |= view.wanted
        return None

    def _repaired(self, view: View, diagnoses: list[Diagnosis], examined: Examined, is_last: bool) -> bool:
        """Note findings, repaired where that is safe; whether something changed meanwhile and is to be seen again."""
        has_changed = False
        left: list[Finding] = []
        for diagnosis in diagnoses:
            is_repaired = False
            if self._is_repairing and diagnosis.repair:
                is_repaired = self._tables.commit(view, diagnosis.repair)
                has_changed = has_changed or not is_repaired
            finding = _finding(diagnosis, is_repaired)
            (examined.findings if is_repaired else left).append(finding)
        if has_changed and not is_last:
            return True
        examined.findings += left
        return False

    # What one look does not tell. Each makes sure of what it found, in an order that excludes false alarms.

    def _judged_by_reading_on(
        self, view: View, key: Key, examined: Examined, diagnoses: list[Diagnosis]
    ) -> list[Diagnosis]:
        """More diagnoses; those that turn out to be none are taken away."""
        self._drop_if_listed_elsewhere(view, key, diagnoses)
        more: list[Diagnosis] = []
        if key.pk.startswith("NAME#"):
            more += self._judge_aliases(view, key)
        if version := _version_in(view, key):
            more += self._judge_object(key, version, examined)
        if judge_of(key) is rows.judge_tree_file and not diagnoses:
            more += self._judge_tree_object(key, examined)
        head = _head_in(view, key)
        if head and all(diagnosis.kind != Kind.CHAIN_BROKEN for diagnosis in diagnoses):
            more += self._judge_chain(key, head[0], Head(), head[1], examined)
        return more

    def _drop_if_listed_elsewhere(self, view: View, key: Key, diagnoses: list[Diagnosis]) -> None:
        """The row of an upload is moved by the sweep, once a day at most, and dropped when the upload has ended.

        So an upload that is open all the time has one, which is found in one of two searches.
        """
        is_unlisted = any(diagnosis.kind == Kind.UPLOAD_ROW for diagnosis in diagnoses)
        found = upload_at(view, key.pk.partition("#")[2]).content if key.pk.startswith("UPLOAD#") else None
        if not is_unlisted or found is None:
            return
        first, last = sorted(map(time_text, (found.listed_at, found.upload.expires_at)))
        is_listed = any(self._tables.has_upload_row(found.upload.id, first, last) for _ in range(2))
        if is_listed or self._tables.read([key]).seen(key) != view.seen(key):
            diagnoses[:] = [diagnosis for diagnosis in diagnoses if diagnosis.kind != Kind.UPLOAD_ROW]

    def _judge_aliases(self, view: View, key: Key) -> list[Diagnosis]:
        numbers = records.alias_numbers(view, key)
        diagnoses: list[Diagnosis] = []
        for start in range(0, len(numbers), ALIASES_AT_ONCE):
            some = numbers[start : start + ALIASES_AT_ONCE]
            seen = self._settled(partial(_judge_numbers, some), key, view.seen(key) or {})
            diagnoses += seen[1] if seen else []
        return diagnoses

    def _judge_tree_object(self, key: Key, examined: Examined) -> list[Diagnosis]:
        """The object of a file of a tree, if the file names it before and after S3 was asked."""
        named = self._tables.read([key]).seen(key)
        if named is None:
            return []
        examined.count("objects")
        file, tree_id = TreeFileItem.from_raw_data(named).file(), key.pk.removeprefix(TREE)
        stored = self._blobs.stored(file.key) if objects.is_ours(file.key) else None
        diagnoses = objects.judge_tree_object(str(key), tree_id, file, stored)
        return diagnoses if diagnoses and self._tables.read([key]).seen(key) == named else []

    def _judge_object(self, key: Key, version: ModelVersion, examined: Examined) -> list[Diagnosis]:
        """An object is put before its record, removed after it, and its key never used again.

        So if the record names it before and after S3 was asked, it should have been there.
        """
        file = version.file
        if file is None:
            return []
        examined.count("objects")
        if not objects.can_be_asked_for(file):
            what = "Its record names an object that the registry cannot have stored."
            return [Diagnosis(Kind.OBJECT_MISSING, key.pk, what)]
        stored = self._blobs.stored(file.key)
        if stored and stored.digest is None:
            examined.count("objects_without_checksum")
        if not (diagnoses := objects.judge_object(version, file, stored)):
            return []
        if is_held(self._tables.read([shared := in_registry(held_key(file.key))]).seen(shared)):
            # It is marked with the version that it was stored for, of which this is a copy.
            diagnoses = [diagnosis for diagnosis in diagnoses if diagnosis.kind != Kind.OBJECT_MARK]
        again = _version_in(self._tables.read([key]), key)
        return diagnoses if again and again.artifact == version.artifact else []

    def _judge_chain(self, key: Key, subject: str, last: Head, head: Head, examined: Examined) -> list[Diagnosis]:
        """Follow one piece of a chain; what is left is noted. What is broken is followed again, up to a new head."""
        try:
            piece = follow(self._tables, subject, last, head, self._chain_events)
        except BrokenChain:
            now = _head_in(self._tables.read([key]), key)
            if now is None:
                return []
            try:
                piece = follow(self._tables, subject, last, now[1], self._chain_events)
            except BrokenChain as exc:
                return [Diagnosis(Kind.CHAIN_BROKEN, subject, f"{in_words(str(exc))}.")]
        examined.count("events", piece.event_count)
        if piece.is_end:
            examined.count("chains")
            return self._judge_beyond(key, subject, piece)
        examined.chain = ChainPosition(pk=key.pk, subject=subject, seq=piece.last.seq, digest=piece.last.digest)
        return []

    def _judge_beyond(self, key: Key, subject: str, piece: Piece) -> list[Diagnosis]:
        """An item behind the head was appended since, with a newer head, or it is none of the chain."""
        if piece.beyond is None:
            return []
        view = self._tables.read([key, piece.beyond])
        head = _head_in(view, key)
        if head is None or view.seen(piece.beyond) is None or piece.beyond.sk <= in_events(subject, head[1].seq).sk:
            return []
        what = f"{piece.beyond} is there, but its record names event {head[1].seq} as the newest."
        return [Diagnosis(Kind.CHAIN_BROKEN, subject, what)]


def judge_of(key: Key) -> Judge | None:
    """Who judges an item; None for what is right whatever it holds."""
    for pk, sk, judge in JUDGES:
        has_pk = key.pk.startswith(pk) if pk.endswith("#") else key.pk == pk
        if has_pk and (key.sk == sk if sk in (META, "NAME") else key.sk.startswith(sk)):
            return judge
    return rows.judge_unknown


def unjudged(key: Key, exc: Exception) -> Finding:
    """The finding that the doctor itself failed at an item."""
    return _finding(Diagnosis(Kind.UNJUDGED, str(key), f"It failed with {type(exc).__name__}."), is_repaired=False)


def _judge_numbers(numbers: Sequence[int], view: View, key: Key) -> list[Diagnosis]:
    return records.judge_alias_numbers(view, key, numbers)


def _finding(diagnosis: Diagnosis, is_repaired: bool) -> Finding:
    what = diagnosis.what if diagnosis.repair else f"{diagnosis.what} {diagnosis.kind.outcome}"
    is_safe = diagnosis.repair is not None
    return Finding(
        kind=diagnosis.kind, subject=in_words(diagnosis.subject), what=what, repaired=is_repaired, safe=is_safe
    )


def is_held(raw: RawItem | None) -> bool:
    """Whether an item says that copies have an object."""
    return raw is not None and "count" in raw


def _version_in(view: View, key: Key) -> ModelVersion | None:
    if not key.pk.startswith("MODEL#") or key.sk != META:
        return None
    found = model_at(view, key.pk.partition("#")[2])
    return found.content.version if found.content else None


def _head_in(view: View, key: Key) -> tuple[str, Head] | None:
    """The subject whose head an item keeps, and that."""
    if key.sk != META:
        return None
    kind, _, rest = key.pk.partition("#")
    if kind == "NAME":
        name = name_at(view, key.pk).content
        return (registered_model_key(name.model.rm_id), name.head) if name else None
    if kind == "RM":
        tombstone = tombstone_at(view, rest) if key.sk == "NAME" else None
        return (key.pk, tombstone) if tombstone else None
    if f"{kind}#" in KINDS:
        tracked = tracked_at(view, key).content if key.sk == META else None
        return (key.pk, tracked.head) if tracked else None
    if kind == "GETI":
        run = run_at(view, rest).content
        return (key.pk, run.head) if run and run.head.seq else None
    found = model_at(view, rest) if kind == "MODEL" else token_at(view, rest) if kind == "TOKEN" else None
    return (key.pk, found.content.head) if found and found.content else None
