"""API tokens: what one allows, how it is spelled, and when it counts. Pure.

A token is `mr_{id}_{secret}{checksum}`: its id is public and finds the record, the secret is 256 random bits in 43
characters of base 62, and the checksum, the CRC-32 of all before it in 6, tells a mistyped or shortened token without a
look into the store. What is kept is the SHA-256 of the whole text; the text itself is shown once and nowhere kept.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from datetime import datetime, timedelta
from typing import Literal

from chalicelib.registry.access import Access
from chalicelib.registry.models import Frozen, Name, QualifiedName

USE_NOTED_EVERY = timedelta(hours=1)
SECRET_BITS = 256
SECRET_CHARACTERS, CHECKSUM_CHARACTERS = 43, 6
BASE_62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
FORM = re.compile(r"(mr_([0-9A-Z]{26})_[0-9A-Za-z]{43})([0-9A-Za-z]{6})")
TokenState = Literal["active", "revoked", "expired"]


class Token(Frozen):
    """What a token allows, and until when. It carries nothing that would let somebody use it."""

    id: str
    name: Name
    access: Access
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def subject(self) -> str:
        """Whose trail it belongs to."""
        return self.id

    @property
    def qualified_name(self) -> QualifiedName | None:
        """It belongs to no project: only an admin without limits sees what happens to it."""
        return None

    def state(self, at: datetime) -> TokenState:
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= at else "active"


class StoredToken(Frozen):
    """A token as it is kept: with the digest of its text, and when it was used last, to the hour."""

    token: Token
    digest: str
    last_used_at: datetime | None = None


def new_token_text(token_id: str) -> str:
    """A new token of this id, as it is shown once."""
    stem = f"mr_{token_id}_{_base_62(secrets.randbits(SECRET_BITS), SECRET_CHARACTERS)}"
    return stem + checksum_of(stem)


def id_in(text: str) -> str | None:
    """The id of a token that is spelled right; None for anything else."""
    found = FORM.fullmatch(text)
    return found[2] if found and found[3] == checksum_of(found[1]) else None


def checksum_of(stem: str) -> str:
    return _base_62(zlib.crc32(stem.encode()), CHECKSUM_CHARACTERS)


def digest_of(text: str) -> str:
    """SHA-256 of a token, in hexadecimal. The secret has 256 random bits, so that nothing slower is needed."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_text_of(text: str, digest: str) -> bool:
    """Whether this is the token of this digest; the time it takes does not tell how much of it is right."""
    return hmac.compare_digest(digest, digest_of(text))


def _base_62(number: int, width: int) -> str:
    characters = []
    for _ in range(width):
        number, rest = divmod(number, len(BASE_62))
        characters.append(BASE_62[rest])
    return "".join(reversed(characters))
