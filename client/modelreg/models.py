"""What the registry answers, typed.

Fields that a newer server adds are ignored. Dates of models are text, as the server writes them; those of tokens and
events are aware datetimes, which become the server's text again in JSON: the digest of an event covers it.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from modelreg.times import rfc3339


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is no time") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc), PlainSerializer(rfc3339, when_used="json")]


class Answer(BaseModel):
    """Never changes; ignores what it does not know. null is the same as a field that is not there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class Model(Answer):
    """A version of a model, with all that is known of it."""

    id: str
    name: str
    version: str
    number: int | None = None
    status: str | None = None
    precision: list[str] | None = None
    size: int | None = None
    sha256: str | None = None
    sha256_checked_by: str | None = None
    format: str | None = None
    origin: str | None = None
    file_url: str | None = None
    project_id: str | None = None
    project_name: str | None = None
    category: str | None = None
    target_device: str | None = None
    target_device_type: str | None = None
    architecture: str | None = None
    score: float | None = None
    overview: dict[str, Any] | None = None
    optimization_capabilities: dict[str, Any] | None = None
    labels: list[str | dict[str, Any]] | None = None
    description: str | None = None
    tags: dict[str, str] = {}
    aliases: list[str] = []
    registered_model_id: str | None = None
    revision: int | None = None
    stage: str | None = None
    source: str | None = None
    created_date: str | None = None
    last_updated_date: str | None = None


class RegisteredModel(Answer):
    """All versions of one name in one project. `name` is the exposed one: `project.name` inside a project.

    latest and versions are there only where one registered model was asked for.
    """

    name: str
    registered_model_id: str
    model_name: str
    project_id: str | None = None
    project_name: str | None = None
    description: str | None = None
    tags: dict[str, str] = {}
    aliases: dict[str, int] = {}
    revision: int | None = None
    created_at: str | None = None
    updated_at: str | None = None
    latest: Model | None = None
    versions: list[Model] = []


class ManifestFile(Answer):
    """A file in an artifact; crc32 as 8 hexadecimal digits."""

    path: str
    size: int
    crc32: str | None = None


class Manifest(Answer):
    """What an artifact holds, and what was read from it."""

    id: str
    file_name: str
    media_type: str
    size: int
    sha256: str | None = None
    sha256_checked_by: str | None = None
    format: str | None = None
    labels: list[str | dict[str, Any]] | None = None
    category: str | None = None
    precision: list[str] | None = None
    file_count: int
    inflated_size: int
    files: list[ManifestFile] = []


class Health(Answer):
    status: str


class Changed(Answer):
    status: Literal["completed"]


class Begun(Answer):
    """An upload that was accepted: where to PUT all of it, or how to cut it into parts."""

    upload_id: str
    model_id: str
    method: str
    url: str | None = None
    headers: dict[str, str] = {}
    part_size: int | None = None
    part_count: int | None = None


class StoredPart(Answer):
    """A part that S3 has; digest is its SHA-256 in base64."""

    number: int
    size: int | None = None
    etag: str
    digest: str | None = None


class Upload(Answer):
    """Where an upload stands. stored: all bytes have arrived, only complete is missing."""

    upload_id: str
    model_id: str
    state: str
    method: str
    size: int
    part_size: int | None = None
    part_count: int | None = None
    reason: str | None = None
    stored: bool = False
    parts: list[StoredPart] = []
    url: str | None = None
    headers: dict[str, str] = {}


class PartTarget(Answer):
    """Where a part may be PUT, with exactly these headers."""

    number: int
    url: str
    headers: dict[str, str] = {}


class PartTargets(Answer):
    parts: list[PartTarget]


class Project(Answer):
    """A project as its models state it: `id` and `name` together, each as it is or none."""

    id: str | None = None
    name: str | None = None


class Token(Answer):
    """An API token: what it allows, and until when. projects and name_prefixes: None where it is not limited to any.

    state: active, revoked or expired, by the registry's clock.
    """

    id: str
    name: str
    role: str
    projects: list[Project] | None = None
    name_prefixes: list[str] | None = None
    state: str
    created_at: Moment
    created_by: str | None = None
    expires_at: Moment | None = None
    revoked_at: Moment | None = None
    last_used_at: Moment | None = None


class NewToken(Token):
    """A token that was just created, with its text, which cannot be had again.

    The text is in no repr and no dump: who wants it asks for `.token`.
    """

    token: str = Field(repr=False, exclude=True)


class Decision(Answer):
    """Whether a token may do something: the status it would get, and the rule that decides."""

    allowed: bool
    status: int
    rule: str


class Asker(Answer):
    """Who made a change: kind is anonymous, system or token."""

    kind: str
    name: str
    request_id: str | None = None
    source_ip: str | None = None
    user_agent: str | None = None
    token_id: str | None = None
    role: str | None = None
    idempotency: str | None = None


class QualifiedName(Answer):
    """A model's name in its project."""

    project_id: str | None = None
    project_name: str | None = None
    name: str


class Checkpoint(Answer):
    """What the newest event of every subject was at a time, in a file that nobody can change until `retained_until`.

    Where to fetch it is in no repr and no dump: it is a secret.
    """

    key: str
    written_at: Moment
    until: Moment
    subjects: int
    sha256: str
    retained_until: Moment | None = None
    url: str = Field(repr=False, exclude=True)


class Event(Answer):
    """One change of one subject, such as `MODEL#id`; changes: field -> (before, after).

    seq and prev, the digest of the subject's event before, make the events of a subject a chain.
    """

    id: str
    time: Moment
    action: str
    subject: str
    seq: int
    actor: Asker
    changes: dict[str, tuple[Any, Any]] = {}
    about: list[QualifiedName] = []
    prev: str = ""
    digest: str


class Bootstrapped(Answer):
    """Whether the first admin's token was taken; reason: why not."""

    outcome: Literal["created", "refused"]
    reason: str | None = None


class Finding(Answer):
    """Something in the stored state that no operation leaves behind. safe: it may be repaired by the doctor."""

    kind: str
    subject: str
    what: str
    repaired: bool
    safe: bool


class Examined(Answer):
    """One step of the doctor; counts: of what it looked at, in this step. after: where to go on, None at the end."""

    findings: list[Finding]
    counts: dict[str, int]
    after: str | None = None
