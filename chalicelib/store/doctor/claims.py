"""Who is behind a claim: whether they need it, and whether it may be freed. Pure.

A claim says only who holds it: a model's id, with an upload while that is open, or the id of a registered model for an
exposed name. What is claimed is a digest, so the holder's record has to say whether it is this.
"""

from dataclasses import dataclass

from chalicelib.registry.doctor import Kind, in_words
from chalicelib.store.doctor.contents import Stored, model_at, optional_text, registered_model, text, upload_at
from chalicelib.store.doctor.views import Diagnosis, Key, Repair, View, is_same, raw_of
from chalicelib.store.keys import claim_key, exposed_name_key
from chalicelib.store.schema import ClaimItem
from chalicelib.store.transactions import RawItem

LOST = "of whom there are events but no record any more"
UNREADABLE = "whose item cannot be read"


@dataclass(frozen=True)
class Claimant:
    """The holder of a claim. `is_entitled`: their record needs it. `why_kept` forbids to free it."""

    name: str
    is_entitled: bool = False
    why_kept: str | None = None
    seen: tuple[Key, ...] = ()


def claimant(view: View, key: Key, raw: RawItem, besides: str | None = None) -> Claimant:
    """Who stands in a claim, besides this upload. Raises Unreadable."""
    holder, upload_id = text(raw, "holder"), optional_text(raw, "upload")
    found = [_as_model(view, key, holder), _as_registered_model(view, key, holder)]
    if upload_id not in (None, besides):
        found.append(_as_upload(view, key, upload_id or ""))
    return Claimant(
        in_words(holder),
        any(one.is_entitled for one in found),
        next((one.why_kept for one in found if one.why_kept), None),
        tuple(dict.fromkeys(key for one in found for key in one.seen)),
    )


def judge_claim(view: View, subject: str, wanted: ClaimItem, owner: Key) -> list[Diagnosis]:
    """Whether who needs a claim has it. `owner` is the item that says so."""
    raw, right = view.item(key := Key("registry", wanted.pk, wanted.sk)), raw_of(wanted)
    if is_same(raw, right):
        return []
    put = Repair(key, put=right, assuming=(owner,))
    if raw is None:
        return [Diagnosis(Kind.CLAIM, subject, f"{key} is not there.", put)]
    if raw.get("holder") == right["holder"] and not _has_open_upload(view, raw):
        return [Diagnosis(Kind.CLAIM, subject, f"{key} is not as it should be.", put)]
    if not _can_be_read(raw):
        return [Diagnosis(Kind.CLAIM, subject, f"{key} does not say who holds it.", put)]
    other = claimant(view, key, raw, besides=wanted.upload)
    if other.is_entitled:
        return [Diagnosis(Kind.TWO_HOLDERS, subject, f"{key} is held by {other.name}, who needs it too.")]
    held = f"{key} is held by {other.name}"
    if other.why_kept:
        return [Diagnosis(Kind.CLAIM, subject, f"{held}, {other.why_kept}.")]
    put = Repair(key, put=right, assuming=tuple(dict.fromkeys((owner, *other.seen))))
    return [Diagnosis(Kind.CLAIM, subject, f"{held}, who is gone.", put)]


def judge_claim_row(view: View, key: Key, raw: RawItem) -> list[Diagnosis]:
    """Whether who holds a claim needs it. Raises Unreadable."""
    holder = claimant(view, key, raw)
    if holder.is_entitled or holder.why_kept == UNREADABLE:
        return []
    if holder.why_kept:
        return [Diagnosis(Kind.STRAY_CLAIM, str(key), f"It is held by {holder.name}, {holder.why_kept}.")]
    free = Repair(key, assuming=holder.seen)
    return [Diagnosis(Kind.STRAY_CLAIM, str(key), f"It is held by {holder.name}, who is gone.", free)]


def _as_model(view: View, key: Key, holder: str) -> Claimant:
    found = model_at(view, holder)
    if found.content is None:
        return _absent(found)
    if version := found.content.version:
        is_entitled = claim_key(version.rm_id, version) == key.pk
        return Claimant(holder, is_entitled, "a model that claims something else", (found.key,))
    if found.content.upload_id is None:
        return Claimant(holder, seen=(found.key,))
    upload = _as_upload(view, key, found.content.upload_id)
    return Claimant(holder, upload.is_entitled, upload.why_kept, (found.key, *upload.seen))


def _as_upload(view: View, key: Key, upload_id: str) -> Claimant:
    found = upload_at(view, upload_id)
    if found.content is None or not found.content.is_open:
        return _absent(found)
    upload = found.content.upload
    is_entitled = claim_key(upload.rm_id, upload.draft) == key.pk
    return Claimant(upload_id, is_entitled, "an upload that is open and claims something else", (found.key,))


def _as_registered_model(view: View, key: Key, holder: str) -> Claimant:
    found = registered_model(view, holder)
    if found.content is None:
        return _absent(found)
    is_entitled = exposed_name_key(found.content.model.exposed_name) == key.pk
    return Claimant(holder, is_entitled, "a registered model that is shown under another name", (found.key,))


def _absent(found: Stored[object]) -> Claimant:
    """There is none, or none that can be asked."""
    why_kept = LOST if found.is_lost else UNREADABLE if found.problem else None
    return Claimant("", why_kept=why_kept, seen=(found.key,))


def _can_be_read(raw: RawItem) -> bool:
    return "S" in raw.get("holder", {}) and "S" in raw.get("upload", {"S": ""})


def _has_open_upload(view: View, raw: RawItem) -> bool:
    upload_id = raw.get("upload", {}).get("S")
    if not isinstance(upload_id, str):
        return False
    found = upload_at(view, upload_id)
    return found.problem is not None or (found.content is not None and found.content.is_open)
