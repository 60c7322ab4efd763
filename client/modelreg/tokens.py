"""How a token is spelled: `mr_{id}_{secret}{checksum}`. Pure.

The id is public: it finds the token's record and is all that is ever sent or shown of somebody else's token. The secret
is 256 random bits in 43 characters of base 62; the checksum is the CRC-32 of all before it, in 6 more. So a token that
was cut off or mistyped is noticed here, before it is sent anywhere.
"""

import hashlib
import re
import secrets
import string
import time
import zlib
from collections.abc import Callable
from typing import NamedTuple

from modelreg.errors import InvalidInput

PREFIX = "mr_"
SECRET_BITS, SECRET_CHARACTERS, CHECKSUM_CHARACTERS = 256, 43, 6
BASE_62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # base 32 of ULIDs
_FORM = re.compile(r"(mr_[0-9A-Z]{26}_[0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_ID = re.compile(r"(?:mr_)?([0-9A-Z]{26})(?:_.*)?", re.S)
# Also of a token that is damaged: what is left of its secret is one.
_SECRET = re.compile(r"(mr_[0-9A-Za-z]{16,36}_)[0-9A-Za-z]{8,}")


class Minted(NamedTuple):
    """A token that was made here. `text` is the secret: it is shown once, and only `digest` goes to the registry."""

    id: str
    text: str
    digest: str

    def __repr__(self) -> str:
        return f"Minted(id={self.id!r})"


def minted(clock: Callable[[], float] = time.time, random_bits: Callable[[int], int] = secrets.randbits) -> Minted:
    """A new token with an id of this moment."""
    token_id = _digits((int(clock() * 1000) << 80) | random_bits(80), CROCKFORD, 26)
    stem = f"{PREFIX}{token_id}_{_digits(random_bits(SECRET_BITS), BASE_62, SECRET_CHARACTERS)}"
    text = stem + _checksum(stem)
    return Minted(token_id, text, hashlib.sha256(text.encode()).hexdigest())


def is_whole(text: str) -> bool:
    """Whether it is spelled as a token, with the right checksum. Whether the registry knows it is another matter."""
    found = _FORM.fullmatch(text)
    return found is not None and found[2] == _checksum(found[1])


def checked_form(text: str) -> str:
    """The token. Raises InvalidInput, which does not repeat it, if it is none, or not all of it, or mistyped."""
    if is_whole(text):
        return text
    if not text.startswith(PREFIX):
        raise InvalidInput(
            f"This is no token of a model registry: those begin with {PREFIX}. It was not sent anywhere.",
            field="token",
            hint="Copy the token once more, as it was shown when it was created.",
        )
    raise InvalidInput(
        "The token is damaged: its checksum is wrong, so characters are missing, changed or too many."
        " It was not sent anywhere.",
        field="token",
        hint="Copy it once more, from its first character to its last. If it is lost, ask an admin for a new one.",
    )


def id_of(token: str) -> str:
    """The id of a token, from the id itself or from the whole token. Raises InvalidInput, which does not repeat it."""
    found = _ID.fullmatch(token.strip())
    if not found:
        raise InvalidInput(
            "This is neither the id of a token nor a token.",
            field="token_id",
            hint="An id has 26 digits and capitals: it is what a token has between `mr_` and the next `_`.",
        )
    return found[1]


def without_secret(text: str) -> str:
    """The id, if the text is a token, damaged or not, that was given where a name or an id was asked for."""
    return id_of(text) if _SECRET.fullmatch(text.strip()) and _ID.fullmatch(text.strip()) else text


def without_secrets(text: str) -> str:
    """The text with the secret of every token in it left out."""
    return _SECRET.sub(r"\1...", text)


def _checksum(stem: str) -> str:
    return _digits(zlib.crc32(stem.encode()), BASE_62, CHECKSUM_CHARACTERS)


def _digits(number: int, alphabet: str, width: int) -> str:
    """The number to the base of the alphabet, of fixed width, the highest digit first."""
    digits = []
    for _ in range(width):
        number, rest = divmod(number, len(alphabet))
        digits.append(alphabet[rest])
    return "".join(reversed(digits))
