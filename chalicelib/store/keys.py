"""How items are keyed: the partition and sort keys of schema.py's table, made of what they are asked by. Pure."""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate

from chalicelib.registry.models import Metadata, ModelVersion, QualifiedName, milliseconds, time_text
from chalicelib.registry.registered_models import RegisteredModel
from chalicelib.registry.uploads import Upload

CATALOG_SHARDS = 4
MAX_LISTED_BYTES = 900
META, NAMES, UPLOADS, SWEEP = "META", "NAMES", "UPLOADS", "SWEEP"
TOKENS, BOOTSTRAP = "TOKENS", "BOOTSTRAP"
TAG_SEPARATOR = "\x1f"
NAME_END = "\x1f"
LISTED_CHARACTERS = 256
MAX_TAGS_BYTES_OF_A_ROW = 64 * 1024
MORE_TAGS = TAG_SEPARATOR  # no tag: a key is not blank


PENDING = "PENDING"


def model_key(model_id: str) -> str:
    return f"MODEL#{model_id}"


def name_key(named: Metadata | QualifiedName | RegisteredModel) -> str:
    """Where the registered model of this project and name is kept."""
    return f"NAME#{_digest(named.project_id, named.project_name, named.name)}"


def probable_name_key(exposed_name: str) -> str:
    """Where the registered model that is shown under this name is kept most likely: its claim tells."""
    project_name, _, name = exposed_name.partition(".")
    if project_name and name:
        return f"NAME#{_digest(None, project_name, name)}"
    return f"NAME#{_digest(None, None, exposed_name)}"


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


def project_key(digest: str, is_hidden: bool = False) -> str:
    """Where the versions of a project are listed."""
    return f"EXTERNAL-PROJECT#{digest}" if is_hidden else f"PROJECT#{digest}"


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


def shard_key(shard: int, is_hidden: bool = False) -> str:
    """Where all versions of a shard are listed; apart from each other those that are hidden and those that are not."""
    return f"EXTERNAL#{shard}" if is_hidden else f"CATALOG#{shard}"


def shard_of(model_id: str) -> int:
    return zlib.crc32(model_id.encode()) % CATALOG_SHARDS


def _digest(*parts: str | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def catalog_keys(version: ModelVersion) -> list[str]:
    """Every partition that lists this version."""
    digest = project_digest(version.project_id, version.project_name)
    shard = shard_key(shard_of(version.id), version.is_hidden)
    return [shard, *([project_key(digest, version.is_hidden)] if digest else [])]


def tag_text(key: str, value: str) -> str:
    """A tag as one text; unambiguous, since a key has no control characters. A long value is there by its SHA-256."""
    if len(value) > LISTED_CHARACTERS or value.startswith(TAG_SEPARATOR):
        value = f"{TAG_SEPARATOR}{_digest(value)}"
    return f"{key}{TAG_SEPARATOR}{value}"


def tag_texts(tags: Mapping[str, str]) -> set[str]:
    """Tags as a row has them; if there are too many for it, some, and `MORE_TAGS`: then only the record tells."""
    return _fitting([tag_text(key, value) for key, value in sorted(tags.items())])


def tag_hints(tags: Mapping[str, str]) -> set[str]:
    """As tag_texts, of hints."""
    return _fitting([tag_hint(key, value) for key, value in sorted(tags.items())])


def _fitting(texts: Sequence[str]) -> set[str]:
    sizes = accumulate(len(text.encode()) for text in texts)
    count = sum(size <= MAX_TAGS_BYTES_OF_A_ROW for size in sizes)
    return {*texts[:count], *([MORE_TAGS] if count < len(texts) else [])}


# Of the rows that MLflow's searches read (search_rows.py).

HINTED_CHARACTERS = 64


def exact_name_key(exposed_name: str, rm_id: str) -> str:
    """Sorts as the bytes of the name do, as names sort in MLflow on SQLite."""
    name = exposed_name.encode()[:MAX_LISTED_BYTES].decode(errors="ignore")
    return f"{name}{NAME_END}{rm_id}"


def changed_key(at: datetime, holder: str) -> str:
    """Sorts by time, to the millisecond as MLflow has it, then by what changed."""
    return f"{milliseconds(at):015d}#{holder}"


def searched_key(text: str) -> str:
    """Any text as a part of a key."""
    return _digest(text)


def tag_hint(key: str, value: str) -> str:
    """A tag as a search row has it: whole if its value is short, else its beginning, which tells less."""
    return tag_text(key, value[:HINTED_CHARACTERS])


def tagged_key(value: str, rm_id: str) -> str:
    return f"{value[:HINTED_CHARACTERS]}{TAG_SEPARATOR}{rm_id}"
