"""Whether a record and everything that depends on it say the same. Pure.

A record is a version (or the hold or the tombstone of its id), a registered model, an open upload, an API token, the
run of a Geti server or one of its models. Each is judged with the rows that it should have; rows that nobody should
have are judged by themselves, in rows.py. What is wrong with the other side is left to that side's own judgement, so
that one damage makes one finding.
"""

from collections.abc import Sequence

from chalicelib.registry.doctor import Kind, in_words
from chalicelib.registry.models import Head, ModelVersion, Tree, time_text
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.registry.trees import sealing
from chalicelib.registry.uploads import Upload
from chalicelib.store.doctor.claims import judge_claim
from chalicelib.store.doctor.contents import (
    ModelContent,
    NameContent,
    Stored,
    geti_model_at,
    is_name,
    model_at,
    name_at,
    registered_model,
    run_at,
    token_at,
    tombstone_at,
    tracked_at,
    upload_at,
)
from chalicelib.store.doctor.views import Diagnosis, Key, Repair, View, in_events, in_registry, is_same, raw_of
from chalicelib.store.geti_items import DueItem
from chalicelib.store.keys import (
    META,
    NAMES,
    TOKENS,
    UPLOADS,
    claim_key,
    exposed_name_key,
    name_key,
    number_key,
    project_digest,
    project_names_key,
    registered_model_key,
    token_key,
)
from chalicelib.store.model_records import MAX_TAG_ROWS, change_rows, names_rows, tag_rows
from chalicelib.store.schema import ClaimItem, PointerItem, RegistryItem
from chalicelib.store.search_rows import VERSIONS_BY_CHANGE, ModelRow
from chalicelib.store.transactions import RawItem
from chalicelib.store.tree_items import tree_key
from chalicelib.store.version_rows import listed_rows, number_row

LISTS = (
    *((prefix, Kind.CATALOGUE_ROW) for prefix in ("CATALOG#", "EXTERNAL#")),
    *((prefix, Kind.PROJECT_ROW) for prefix in ("PROJECT#", "EXTERNAL-PROJECT#")),
    (VERSIONS_BY_CHANGE, Kind.VERSION_ROW),
)


# Versions, holds and tombstones


def judge_model(view: View, key: Key) -> list[Diagnosis]:
    found = model_at(view, key.pk.partition("#")[2])
    if found.content is None:
        return _unreadable(found)
    content = found.content
    diagnoses = judge_head(view, key.pk, content.head, content.event_id)
    if content.version:
        return diagnoses + _judge_version(view, key, content.version, content.head)
    return diagnoses + (_judge_hold(view, found, content) if content.upload_id is not None else [])


def _judge_version(view: View, key: Key, version: ModelVersion, head: Head) -> list[Diagnosis]:
    diagnoses = _judge_revision(key.pk, version.revision, head)
    claim = ClaimItem(claim_key(version.rm_id, version), META, holder=version.id)
    diagnoses += judge_claim(view, key.pk, claim, key)
    diagnoses += _judge_number(view, key, version)
    for row in listed_rows(version):
        kind = next(kind for prefix, kind in LISTS if row.pk.startswith(prefix))
        diagnoses += _judge_row(view, kind, key.pk, raw_of(row), key)
    if isinstance(version.artifact, Tree):
        diagnoses += _judge_tree(view, key.pk, version.artifact)
    return diagnoses + _judge_membership(view, key.pk, version)


def _judge_tree(view: View, subject: str, tree: Tree) -> list[Diagnosis]:
    """Whether the files are of a tree that is there, at a path below which nothing changes."""
    raw = view.item(key := in_registry(tree_key(tree.tree_id)))
    if raw is None:
        return [Diagnosis(Kind.TREE, subject, f"{key} is not there.")]
    sealed: object = raw.get("sealed", {}).get("SS")
    if not isinstance(sealed, list) or not set(sealing(tree.prefix)) & set(sealed):
        return [Diagnosis(Kind.TREE, subject, f"{key} is not sealed at {in_words(tree.prefix) or 'its root'}.")]
    return []


def _judge_number(view: View, key: Key, version: ModelVersion) -> list[Diagnosis]:
    right = raw_of(number_row(version))
    row = view.item(row_key := _key_of(right))
    target = (row or {}).get("target", {}).get("S")
    if isinstance(target, str) and target != version.id:
        other = model_at(view, target)
        has_it = other.content and other.content.version and _place(other.content.version) == _place(version)
        if has_it or other.problem:
            kind = Kind.TWO_HOLDERS if has_it else Kind.NUMBER_ROW
            why = "has it too" if has_it else "cannot be read"
            return [Diagnosis(kind, key.pk, f"{row_key} leads to {in_words(target)}, which {why}.")]
    return _judge_row(view, Kind.NUMBER_ROW, key.pk, right, key)


def _place(version: ModelVersion) -> tuple[str, int]:
    return version.rm_id, version.number


def _judge_membership(view: View, subject: str, version: ModelVersion) -> list[Diagnosis]:
    """Whether it is in its registered model, which counts it and names the same aliases."""
    found = _belonging_to(view, version.rm_id, name_key(version))
    if found is None:
        return []
    diagnoses = _judge_belonging(subject, version.rm_id, found)
    if diagnoses or found.content is None:
        return diagnoses
    name = found.content
    if name.counter < version.number:
        counted = Repair(found.key, change={"counter": {"N": str(version.number)}})
        what = f"It is number {version.number}; the counter of {in_words(name.model.exposed_name)} is {name.counter}."
        diagnoses.append(Diagnosis(Kind.COUNTER, subject, what, counted))
    if (given := name.model.aliases_of(version.number)) != tuple(sorted(version.aliases)):
        mine, its = (in_words(", ".join(names)) or "none" for names in (version.aliases, given))
        what = f"Its aliases are {mine}; its registered model gives it {its}."
        diagnoses.append(Diagnosis(Kind.ALIASES, subject, what))
    return diagnoses


def _belonging_to(view: View, rm_id: str, key: str) -> Stored[NameContent] | None:
    """The registered model of this id, first looked for under a name that may be of before; None if it was deleted.

    What belongs to a renamed or a deleted one follows it a little later.
    """
    found = name_at(view, key)
    if found.problem or (found.content and found.content.model.rm_id == rm_id):
        return found
    if tombstone_at(view, rm_id):
        return None
    by_id = registered_model(view, rm_id)
    return by_id if by_id.content else found


def _judge_belonging(subject: str, rm_id: str, found: Stored[NameContent]) -> list[Diagnosis]:
    if found.problem:
        return []
    if found.content is None:
        return [Diagnosis(Kind.REGISTERED_MODEL, subject, f"{found.key}, that of {in_words(rm_id)}, is not there.")]
    if found.content.model.rm_id != rm_id:
        other = in_words(found.content.model.rm_id)
        return [Diagnosis(Kind.REGISTERED_MODEL, subject, f"{found.key} is {other}, not {in_words(rm_id)}.")]
    return []


def _judge_hold(view: View, found: Stored[ModelContent], hold: ModelContent) -> list[Diagnosis]:
    upload = upload_at(view, hold.upload_id or "")
    subject, name = found.key.pk, in_words(hold.upload_id or "")
    if upload.problem or found.raw is None:
        return []
    if upload.content is None or not upload.content.is_open:
        kept = {key: value for key, value in found.raw.items() if key not in ("upload", "upload_key")}
        tombstone = Repair(found.key, put={**kept, "deleted": {"BOOL": True}}, assuming=(upload.key,))
        state = upload.content.upload.state if upload.content else "not there"
        return [Diagnosis(Kind.STRAY_HOLD, subject, f"It is held by upload {name}, which is {state}.", tombstone)]
    if upload.content.upload.subject != subject.partition("#")[2]:
        # The upload may hold another id, or none.
        return [Diagnosis(Kind.STRAY_HOLD, subject, f"It is held by upload {name}, which is of another model.")]
    if upload.content.upload.key != hold.upload_key:
        return [Diagnosis(Kind.UPLOAD_HOLD, subject, f"It names another object than upload {name}.")]
    return []


# Registered models


def judge_name(view: View, key: Key) -> list[Diagnosis]:
    found = name_at(view, key.pk)
    if found.content is None:
        return _unreadable(found)
    model, head = found.content.model, found.content.head
    subject = registered_model_key(model.rm_id)
    diagnoses = judge_head(view, subject, head) + _judge_revision(subject, model.revision, head)
    diagnoses += _judge_pointer(view, key, model)
    for names in names_rows(model, key.pk):
        kind = Kind.NAMES_ROW if names.pk == NAMES else Kind.PROJECT_NAMES_ROW
        diagnoses += _judge_row(view, kind, subject, raw_of(names), key)
    for row in _search_rows(model, key):
        diagnoses += _judge_row(view, Kind.SEARCH_ROW, subject, raw_of(row), key)
    claim = ClaimItem(exposed_name_key(model.exposed_name), META, holder=model.rm_id, target=key.pk)
    return diagnoses + judge_claim(view, subject, claim, key)


def _search_rows(model: RegisteredModel, key: Key) -> list[RegistryItem]:
    """Those by which searches find it; of many tags the first, for a look is bounded."""
    changed = change_rows(model, model.rm_id, key.pk, model.last_changed_at)
    return [*ModelRow.rows_of(model, key.pk), *changed, *tag_rows(model, key.pk)[:MAX_TAG_ROWS]]


def judge_tracked(view: View, key: Key) -> list[Diagnosis]:
    """Whether the trail of an experiment, a run or a logged model ends where it says."""
    found = tracked_at(view, key)
    return _unreadable(found) if found.content is None else judge_head(view, key.pk, found.content.head)


def _judge_pointer(view: View, key: Key, model: RegisteredModel) -> list[Diagnosis]:
    subject = registered_model_key(model.rm_id)
    right = _pointer(subject, "NAME", key.pk)
    target = (view.item(_key_of(right)) or {}).get("target", {}).get("S")
    if is_name(target) and target != key.pk:
        other = name_at(view, target).content
        if other and other.model.rm_id == model.rm_id:
            return [Diagnosis(Kind.TWO_HOLDERS, subject, f"{key} and {in_words(target)} both have this id.")]
    return _judge_row(view, Kind.NAME_POINTER, subject, right, key)


def judge_alias_numbers(view: View, key: Key, numbers: Sequence[int]) -> list[Diagnosis]:
    """Whether these numbers, which aliases of a registered model name, lead anywhere; whereto, versions tell."""
    found = name_at(view, key.pk)
    if found.content is None:
        return []
    model = found.content.model
    subject = registered_model_key(model.rm_id)
    return [
        Diagnosis(Kind.ALIASES, subject, f"The alias {in_words(alias)} names number {number}, which no version has.")
        for number in numbers
        for alias in model.aliases_of(number)
        if view.item(in_registry(subject, number_key(number))) is None
    ]


def alias_numbers(view: View, key: Key) -> list[int]:
    found = name_at(view, key.pk)
    # A number of more digits than a key has leads nowhere, and its key is looked for all the same.
    return sorted(set(found.content.model.aliases.values())) if found.content else []


def names_keys(model: RegisteredModel) -> list[str]:
    """Every list that a registered model stands in."""
    digest = project_digest(model.project_id, model.project_name)
    return [NAMES, *([project_names_key(digest)] if digest else [])]


# Uploads and tokens


def judge_upload(view: View, key: Key) -> list[Diagnosis]:
    """Of an open one, whether it has what it holds. Its row may be another than here is looked for: see Examiner."""
    found = upload_at(view, key.pk.partition("#")[2])
    if found.content is None:
        return _unreadable(found)
    if not found.content.is_open:
        return []
    upload = found.content.upload
    diagnoses = _judge_holding(view, key, upload)
    claim = ClaimItem(claim_key(upload.rm_id, upload.draft), META, holder=upload.draft.id, upload=upload.id)
    if not diagnoses:
        diagnoses += judge_claim(view, key.pk, claim, key)
    if named := _belonging_to(view, upload.rm_id, name_key(upload.draft)):
        diagnoses += _judge_belonging(key.pk, upload.rm_id, named)
    rows = [
        _pointer(UPLOADS, f"{time_text(at)}#{upload.id}", key.pk) for at in (upload.expires_at, found.content.listed_at)
    ]
    if all(view.item(_key_of(row)) is None for row in rows):
        put = Repair(_key_of(rows[0]), put=rows[0], assuming=(key,))
        diagnoses.append(Diagnosis(Kind.UPLOAD_ROW, key.pk, "It has no row in the list of the sweep.", put))
    return diagnoses


def _judge_holding(view: View, key: Key, upload: Upload) -> list[Diagnosis]:
    holder = model_at(view, upload.draft.id)
    if holder.problem or (holder.content and holder.content.upload_id == upload.id):
        return []
    state = holder.content
    if state is None:
        what = "is not there"
    elif state.version:
        return [Diagnosis(Kind.TWO_HOLDERS, key.pk, f"{holder.key} is a version, while this upload is open.")]
    elif state.upload_id:
        what = f"is held by upload {in_words(state.upload_id)}"
    else:
        what = "is the tombstone of a version"
    return [Diagnosis(Kind.UPLOAD_HOLD, key.pk, f"{holder.key} {what}.")]


def judge_token(view: View, key: Key) -> list[Diagnosis]:
    found = token_at(view, key.pk.partition("#")[2])
    if found.content is None:
        return _unreadable(found)
    row = _pointer(TOKENS, found.content.token.id, token_key(found.content.token.id))
    return judge_head(view, key.pk, found.content.head) + _judge_row(view, Kind.TOKEN_ROW, key.pk, row, key)


# What is kept of a Geti server


def judge_run(view: View, key: Key) -> list[Diagnosis]:
    found = run_at(view, key.pk.partition("#")[2])
    if found.content is None:
        return _unreadable(found)
    if found.content.head.seq:
        return judge_head(view, key.pk, found.content.head)
    if view.item(in_events(key.pk, 1)) is None:
        return []
    return [Diagnosis(Kind.CHAIN_BROKEN, key.pk, "Event 1 is there, but its record names none.")]


def judge_geti_model(view: View, key: Key) -> list[Diagnosis]:
    """Of one that is to be tried again, whether it comes up. Rows of other times stay until they come up."""
    found = geti_model_at(view, key)
    if found.content is None:
        return _unreadable(found)
    if found.content.due_at is None:
        return []
    row = DueItem.of(key.pk, found.content, found.content.due_at)
    return _judge_row(view, Kind.DUE_ROW, str(key), raw_of(row), key)


# What all records have


def judge_head(view: View, subject: str, head: Head, event_id: str | None = None) -> list[Diagnosis]:
    """Whether the trail ends where the record says. What is before is too much for one look."""
    newest = view.item(in_events(subject, head.seq))
    behind = view.item(in_events(subject, head.seq + 1))
    if newest is None:
        what = f"Event {head.seq}, the newest that its record names, is not there."
    elif newest.get("digest") != {"S": head.digest} or (
        event_id is not None and newest.get("event_id") != {"S": event_id}
    ):
        what = f"Event {head.seq}, its newest, is not the one that its record names."
    elif behind is not None:
        what = f"Event {head.seq + 1} is there, but its record names event {head.seq} as the newest."
    else:
        return []
    return [Diagnosis(Kind.CHAIN_BROKEN, subject, what)]


def _judge_revision(subject: str, revision: int, head: Head) -> list[Diagnosis]:
    if revision == head.seq:
        return []
    return [Diagnosis(Kind.REVISION, subject, f"It is at revision {revision}, its newest event is number {head.seq}.")]


def _judge_row(view: View, kind: Kind, subject: str, right: RawItem, owner: Key) -> list[Diagnosis]:
    """Whether a row is as its record says. It holds nothing of its own, so it may be put again."""
    row = view.item(key := _key_of(right))
    if is_same(row, right):
        return []
    what = f"{key} is {'not there' if row is None else 'not as it should be'}."
    return [Diagnosis(kind, subject, what, Repair(key, put=right, assuming=(owner,)))]


def _unreadable(found: Stored[object]) -> list[Diagnosis]:
    if not found.problem:
        return []
    return [Diagnosis(Kind.UNREADABLE, str(found.key), f"It cannot be relied on: {found.problem}.")]


def _pointer(pk: str, sk: str, target: str) -> RawItem:
    return raw_of(PointerItem(pk, sk, target=target))


def _key_of(raw: RawItem) -> Key:
    return in_registry(raw["pk"]["S"], raw["sk"]["S"])
