"""Rows that belong to no record, or to one that stands elsewhere. Pure.

A row that its record asks for is compared with it by the judge of the record, and passes here whatever it holds. Rows
of a record that was lost stay: they are right again when it is brought back, and until then its names stay taken.
"""

from chalicelib.registry.doctor import Kind
from chalicelib.registry.models import time_text
from chalicelib.store.doctor.claims import judge_claim_row
from chalicelib.store.doctor.contents import (
    MAX_TAG_PIECES,
    NameContent,
    Stored,
    Unreadable,
    geti_model_at,
    is_name,
    model_at,
    name_at,
    registered_model,
    text,
    token_at,
    tombstone_at,
    upload_at,
    whole,
)
from chalicelib.store.doctor.records import judge_head, names_keys
from chalicelib.store.doctor.views import Diagnosis, Key, Repair, View, in_registry, is_same, raw_of
from chalicelib.store.geti_items import model_row_of_due_key
from chalicelib.store.held_items import held_key
from chalicelib.store.keys import (
    NAME_END,
    NAMES,
    catalog_keys,
    listed_key,
    number_key,
    registered_model_key,
    upload_key,
)
from chalicelib.store.schema import PointerItem
from chalicelib.store.search_rows import ModelRow, VersionRow
from chalicelib.store.spilling import piece_key


def judge_catalogue_row(view: View, key: Key) -> list[Diagnosis]:
    owner = model_at(view, key.sk.rpartition("#")[2])
    version = owner.content.version if owner.content else None
    if version and key.pk in catalog_keys(version) and key.sk == version.position:
        return []
    is_of_a_project = key.pk.startswith(("PROJECT#", "EXTERNAL-PROJECT#"))
    kind = Kind.STRAY_PROJECT_ROW if is_of_a_project else Kind.STRAY_CATALOGUE_ROW
    return _stray(view, kind, key, owner)


def judge_version_row(view: View, key: Key) -> list[Diagnosis]:
    owner = model_at(view, key.sk.partition("#")[2])
    version = owner.content.version if owner.content else None
    if version and key[1:] in [(row.pk, row.sk) for row in VersionRow.rows_of(version)]:
        return []
    return _stray(view, Kind.STRAY_VERSION_ROW, key, owner)


def judge_tags(view: View, key: Key) -> list[Diagnosis]:
    """Whether a version names this piece of its tags; what is in it, the judge of the version says."""
    is_of_a_name = is_name(key.pk)
    owner: Stored[object] = name_at(view, key.pk) if is_of_a_name else model_at(view, key.pk.partition("#")[2])
    named: object = (owner.raw or {}).get("tag_pieces", {}).get("N")
    if (
        isinstance(named, str)
        and named.isdecimal()
        and key.sk in map(piece_key, range(min(int(named), MAX_TAG_PIECES)))
    ):
        return []
    return _stray(view, Kind.STRAY_TAGS, key, owner)


def judge_held(view: View, key: Key) -> list[Diagnosis]:
    """Whether it counts holders of the object whose key it is made of. Who they are, only all versions tell."""
    raw = view.item(key)
    if raw is None:
        return []
    try:
        if held_key(text(raw, "key")) != key.pk:
            raise Unreadable("its key is that of another object")
        if not whole(raw, "count"):
            raise Unreadable("its count is 0, at which it is removed")
    except Unreadable as exc:
        return [Diagnosis(Kind.UNREADABLE, str(key), f"It cannot be relied on: {exc}.")]
    return []


def judge_tree_file(view: View, key: Key) -> list[Diagnosis]:
    """Whether it can be read, and is in a tree. Whether its object is there, S3 has to say."""
    raw = view.item(key)
    if raw is None:
        return []
    try:
        text(raw, "key")
        whole(raw, "size")
    except Unreadable as exc:
        return [Diagnosis(Kind.UNREADABLE, str(key), f"It cannot be relied on: {exc}.")]
    if view.item(in_registry(key.pk)) is None and not view.wanted:
        return [Diagnosis(Kind.TREE, key.pk, "It has a file, but is not there.")]
    return []


def judge_number_row(view: View, key: Key) -> list[Diagnosis]:
    try:
        owner = model_at(view, text(view.item(key) or {}, "target"))
    except Unreadable:
        # Whoever has the number puts it right; if nobody does, it is in the way of whoever will.
        return _stray(view, Kind.STRAY_NUMBER_ROW, key, None)
    version = owner.content.version if owner.content else None
    if version and (registered_model_key(version.rm_id), number_key(version.number)) == key[1:]:
        return []
    return _stray(view, Kind.STRAY_NUMBER_ROW, key, owner)


def judge_pointer_row(view: View, key: Key) -> list[Diagnosis]:
    """To a registered model, or the tombstone of one."""
    rm_id = key.pk.partition("#")[2]
    if tombstone := tombstone_at(view, rm_id):
        return judge_head(view, key.pk, tombstone)
    owner = registered_model(view, rm_id)
    return [] if owner.content else _stray(view, Kind.STRAY_NAME_POINTER, key, owner)


def judge_names_row(view: View, key: Key) -> list[Diagnosis]:
    rm_id = key.sk.rpartition(NAME_END)[2]
    owner = _listed(view, key, rm_id)
    if owner.content:
        model = owner.content.model
        if key.pk in names_keys(model) and key.sk == listed_key(model.exposed_name, model.rm_id):
            return []
    kind = Kind.STRAY_NAMES_ROW if key.pk == NAMES else Kind.STRAY_PROJECT_NAMES_ROW
    return _stray(view, kind, key, owner)


def judge_model_row(view: View, key: Key) -> list[Diagnosis]:
    """Where a registered model is found by its exact name."""
    owner = _listed(view, key, key.sk.rpartition(NAME_END)[2])
    if owner.content:
        rows = ModelRow.rows_of(owner.content.model, owner.key.pk)
        if key[1:] in [(row.pk, row.sk) for row in rows]:
            return []
    return _stray(view, Kind.STRAY_SEARCH_ROW, key, owner)


def _listed(view: View, key: Key, rm_id: str) -> Stored[NameContent]:
    """Whom a row lists: the one that it leads to, if that has this id, or else the one that has it."""
    target = (view.item(key) or {}).get("target", {}).get("S")
    found = name_at(view, target) if is_name(target) else None
    if found and found.content and found.content.model.rm_id == rm_id:
        return found
    return registered_model(view, rm_id)


def judge_claim_item(view: View, key: Key) -> list[Diagnosis]:
    raw = view.item(key)
    try:
        return judge_claim_row(view, key, raw) if raw is not None else []
    except Unreadable as exc:
        return [Diagnosis(Kind.UNREADABLE, str(key), f"It cannot be relied on: {exc}.")]


def judge_upload_row(view: View, key: Key) -> list[Diagnosis]:
    """A row stays after the end of its upload, until the sweep has seen to what is left in S3."""
    row, (time, _, upload_id) = view.item(key), key.sk.partition("#")
    owner = upload_at(view, upload_id)
    if row is None or owner.problem:
        return []
    if owner.content is None:
        return _stray(view, Kind.STRAY_UPLOAD_ROW, key, owner)
    if not owner.content.is_open:
        return []
    if time > time_text(owner.content.upload.expires_at):
        return _stray(view, Kind.STRAY_UPLOAD_ROW, key, owner)
    right = raw_of(PointerItem(key.pk, key.sk, target=upload_key(upload_id)))
    if is_same(row, right):
        return []
    put = Repair(key, put=right, assuming=(owner.key,))
    return [Diagnosis(Kind.UPLOAD_ROW, str(owner.key), f"{key!s} is not as it should be.", put)]


def judge_token_row(view: View, key: Key) -> list[Diagnosis]:
    owner = token_at(view, key.sk)
    return [] if owner.content else _stray(view, Kind.STRAY_TOKEN_ROW, key, owner)


def judge_due_row(view: View, key: Key) -> list[Diagnosis]:
    """A row stays when its model is due at another time or never, until it comes up."""
    owner = geti_model_at(view, in_registry(key.pk, model_row_of_due_key(key.sk)))
    return [] if owner.content else _stray(view, Kind.STRAY_DUE_ROW, key, owner)


def judge_unknown(view: View, key: Key) -> list[Diagnosis]:
    if view.item(key) is None:
        return []
    return [Diagnosis(Kind.UNKNOWN_ITEM, str(key), "Nothing in the registry puts or reads such an item.")]


def judge_subject(view: View, key: Key) -> list[Diagnosis]:
    """Whether there is an item with the head of the events of a subject, of which `key` is one."""
    if view.item(key) is None:
        return []
    prefix, _, subject_id = key.pk.partition("#")
    if prefix == "RM":
        found = registered_model(view, subject_id)
        is_there = bool(found.content or found.problem or tombstone_at(view, subject_id))
    else:
        is_there = view.item(in_registry(key.pk)) is not None
    if is_there:
        return []
    return [Diagnosis(Kind.EVENTS_WITHOUT_HEAD, key.pk, "It has events, but no item.")]


def _stray(view: View, kind: Kind, key: Key, owner: Stored[object] | None) -> list[Diagnosis]:
    """A row that may be removed, if it is there at all, and unless its owner was lost or may be asked another time."""
    if view.item(key) is None or (owner and owner.problem):
        return []
    if owner and owner.is_lost:
        return [Diagnosis(kind, str(key), f"{owner.key} was lost: it has events, but no item.")]
    what = "It leads to nobody." if owner is None else f"{owner.key} is not there, or stands elsewhere."
    remove = Repair(key, assuming=(owner.key,) if owner and owner.key != key else ())
    return [Diagnosis(kind, str(key), what, remove)]
