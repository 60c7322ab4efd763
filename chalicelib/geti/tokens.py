"""What a personal access token of Geti looks like: told before it is sent anywhere. Pure.

`geti_pat_`, 32 random bytes in 43 characters of base 62, `_`, and their CRC-32 in 6: its bytes, the lowest first, read
as a number whose highest byte is the first.
"""

import re
import string
import zlib

from chalicelib.geti.errors import GetiMisconfigured

PREFIX = "geti_pat_"
BASE_62 = string.digits + string.ascii_lowercase + string.ascii_uppercase
FORM = re.compile(rf"{PREFIX}([0-9A-Za-z]{{43}})_([0-9A-Za-z]{{6}})")
LENGTH = len(PREFIX) + 43 + len("_") + 6
WHERE = "GETI_TOKEN, or the secret or parameter that GETI_TOKEN_SECRET or GETI_TOKEN_PARAMETER names"


def checked_token(text: str) -> str:
    """The token in this text. Raises GetiMisconfigured, without showing it, if it cannot be one."""
    token = text.strip()
    if not token.startswith(PREFIX):
        raise GetiMisconfigured(f"{WHERE}: this is not a Geti personal access token: expected {PREFIX}...")
    match = FORM.fullmatch(token)
    if not match:
        expected = f"expected {LENGTH} characters, letters, digits and underscores"
        raise GetiMisconfigured(f"{WHERE}: this is not a whole Geti personal access token: {expected}.")
    secret = _number(match[1])
    if secret.bit_length() > 256 or _number(match[2]) != _checksum(secret):
        raise GetiMisconfigured(f"{WHERE}: this is not a whole Geti personal access token: its checksum differs.")
    return token


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * 62 + BASE_62.index(digit)
    return number


def _checksum(secret: int) -> int:
    crc = zlib.crc32(secret.to_bytes(32, "big"))
    return int.from_bytes(crc.to_bytes(4, "little"), "big")
