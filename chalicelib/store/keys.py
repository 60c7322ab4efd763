"""How items are keyed: the partition and sort keys of schema.py's table, made of what they are asked by. Pure."""

import hashlib
import json
import zlib
from datetime import UTC, datetime

from chalicelib.registry.models import Metadata, ModelVersion, time_text
from chalicelib.registry.uploads import Upload

CATALOG_SHARDS = 4
MAX_LISTED_BYTES = 900
META, NAMES, UPLOADS, SWEEP = "META", "NAMES", "UPLOADS", "SWEEP"
TOKENS, BOOTSTRAP = "TOKENS", "BOOTSTRAP"
TAG_SEPARATOR = "\x1f"
NAME_END = "\x1f"


def model_key(model_id: str) -> str:
    return f"MODEL#{model_id}"


def name_key(metadata: Metadata) -> str:
    """Where the registered model of this project and name is kept."""
    return f"NAME#{_digest(metadata.project_id, metadata.project_name, metadata.name)}"


def claim_key(rm_id: str, metadata: Metadata) -> str:
    """What only one version of a registered model may hold: its version label with its precisions."""
    return f"CLAIM#{_digest(rm_id, metadata.version, *metadata.precision)}"


def exposed_name_key(exposed_name: str) -> str:
    """What only one registered model may hold: the name it is shown under. No rm_id is called so."""
    return f"CLAIM#{_digest('exposed name', exposed_name)}"


def listed_key(exposed_name: str, rm_id: str) -> str:
    """Where a registered model stands in the list: a sort key may have 1,024 bytes.

    What ends the name sorts before all that a name may hold, so that `cat` comes before `cat 2`.
    """
    folded = exposed_name.casefold().encode()[:MAX_LISTED_BYTES].decode(errors="ignore")
    return f"{folded}{NAME_END}{rm_id}"


def upload_key(upload_id: str) -> str:
    return f"UPLOAD#{upload_id}"


def due_key(upload: Upload) -> str:
    return f"{time_text(upload.expires_at)}#{upload.id}"


def token_key(token_id: str) -> str:
    return f"TOKEN#{token_id}"


def project_digest(project_id: str | None, project_name: str | None) -> str | None:
    """Of a project as models state it; None for no project."""
    return _digest(project_id or None, project_name or None) if project_id or project_name else None


def project_key(digest: str) -> str:
    """Where the versions of a project are listed."""
    return f"PROJECT#{digest}"


def project_names_key(digest: str) -> str:
    """Where the registered models of a project are listed."""
    return f"{NAMES}#{digest}"


def project_day_key(digest: str, day: str) -> str:
    """Where the index has the events of a project on a day."""
    return f"{digest}#{day}"


def from_text(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def registered_model_key(rm_id: str) -> str:
    return f"RM#{rm_id}"


def number_key(number: int) -> str:
    return f"V#{number:010d}"


def event_key(seq: int) -> str:
    return f"{seq:012d}"


def shard_key(shard: int) -> str:
    return f"CATALOG#{shard}"


def shard_of(model_id: str) -> int:
    return zlib.crc32(model_id.encode()) % CATALOG_SHARDS


def _digest(*parts: str | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def catalog_keys(version: ModelVersion) -> list[str]:
    """Every partition that lists this version."""
    digest = project_digest(version.project_id, version.project_name)
    return [shard_key(shard_of(version.id)), *([project_key(digest)] if digest else [])]


def tag_text(key: str, value: str) -> str:
    """A tag as one text; unambiguous, since a key has no control characters."""
    return f"{key}{TAG_SEPARATOR}{value}"
