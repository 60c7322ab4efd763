"""Whether S3 has the object that a record names, as far as it says without the bytes being read. Pure."""

import base64

from chalicelib.registry.doctor import Kind, in_words
from chalicelib.registry.marks import FileMark
from chalicelib.registry.models import File, ModelVersion
from chalicelib.registry.trees import TreeFile
from chalicelib.registry.uploads import StoredObject
from chalicelib.store.doctor.views import Diagnosis

OURS = "artifacts/"
MAX_KEY_BYTES = 1_024


def judge_object(version: ModelVersion, file: File, stored: StoredObject | None) -> list[Diagnosis]:
    """Whether S3 has what was registered, as far as it says without the bytes being read."""
    subject = f"MODEL#{version.id}"
    if stored is None:
        return [Diagnosis(Kind.OBJECT_MISSING, subject, f"{in_words(file.key)} is not in the bucket.")]
    if stored.size != file.size:
        what = f"{in_words(file.key)} has {stored.size} bytes, registered were {file.size}."
        return [Diagnosis(Kind.OBJECT_SIZE, subject, what)]
    diagnoses = []
    meant = _digest_in_s3(file)
    if meant and stored.digest and stored.digest != meant:
        what = f"{in_words(file.key)} has the SHA-256 {in_words(stored.digest)} (base64), registered was {meant}."
        diagnoses.append(Diagnosis(Kind.OBJECT_CHECKSUM, subject, what))
    if stored.model_id is not None and stored.model_id != version.id:
        what = f"{in_words(file.key)} is marked as that of {in_words(stored.model_id)}."
        diagnoses.append(Diagnosis(Kind.OBJECT_MARK, subject, what))
    return diagnoses


def judge_tree_object(subject: str, tree_id: str, file: TreeFile, stored: StoredObject | None) -> list[Diagnosis]:
    """Whether S3 has what a file of a tree points at."""
    if stored is None:
        return [Diagnosis(Kind.OBJECT_MISSING, subject, f"{in_words(file.key)} is not in the bucket.")]
    if stored.size != file.size:
        what = f"{in_words(file.key)} has {stored.size} bytes, recorded were {file.size}."
        return [Diagnosis(Kind.OBJECT_SIZE, subject, what)]
    if stored.model_id != str(FileMark(tree_id, file.path)):
        what = f"{in_words(file.key)} is marked as that of {in_words(stored.model_id or 'nobody')}."
        return [Diagnosis(Kind.OBJECT_MARK, subject, what)]
    return []


def can_be_asked_for(file: File) -> bool:
    """Whether its key is one under which the registry stores objects."""
    return is_ours(file.key)


def is_ours(key: str) -> bool:
    """Likewise, of any key."""
    return key.startswith(OURS) and len(key.encode()) <= MAX_KEY_BYTES


def _digest_in_s3(file: File) -> str | None:
    """What S3 should say, in base64; of parts the composite. What only the publisher says, S3 cannot know."""
    if file.s3_digest or file.sha256 is None or file.sha256_checked_by not in ("registry", "s3"):
        return in_words(file.s3_digest) if file.s3_digest else None
    try:
        return base64.b64encode(bytes.fromhex(file.sha256)).decode()
    except ValueError:
        return in_words(file.sha256)
