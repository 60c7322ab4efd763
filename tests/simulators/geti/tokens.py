"""Personal access tokens as Geti 2 makes them: `geti_pat_`, 43 characters of secret, `_`, 6 of checksum, in base 62."""

import zlib

PREFIX = "geti_pat_"
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
VALID_TOKEN = "geti_pat_003AuLtjc7TJLctqJ2Unu3mfAGcxg9lrkrCWgKbidLF_2xfgwV"


def token_of(secret: bytes) -> str:
    """The token of 32 secret bytes."""
    checksum = int.from_bytes(zlib.crc32(secret).to_bytes(4, "little"), "big")
    return f"{PREFIX}{_base62(int.from_bytes(secret, 'big')):0>43}_{_base62(checksum):0>6}"


def is_well_formed(token: str) -> bool:
    """Whether it has the form of a token and its checksum is right."""
    secret, _, checksum = token.removeprefix(PREFIX).partition("_")
    if not token.startswith(PREFIX) or len(secret) != 43 or len(checksum) != 6 or not set(secret) <= set(ALPHABET):
        return False
    number = 0
    for digit in secret:
        number = number * 62 + ALPHABET.index(digit)
    return number < 1 << 256 and token_of(number.to_bytes(32, "big")) == token


def _base62(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits
