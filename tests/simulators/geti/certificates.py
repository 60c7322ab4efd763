"""A certificate authority of our own and a certificate for the loopback, as a Geti in a company has them."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

VALID = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC))


@dataclass(frozen=True)
class Certificate:
    """Files in PEM. `authority` is what a client has to trust."""

    authority: Path
    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))


def make_certificate(
    folder: Path,
    names: tuple[str, ...] = ("localhost", "127.0.0.1"),
    valid: tuple[datetime, datetime] = VALID,
) -> Certificate:
    """A certificate for these names and addresses, valid from and until, and its authority, in the folder."""
    # Where nobody speaks TLS, `cryptography` need not be installed.
    from tests.simulators.geti.signing import signed

    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority, certificate, key = signed(names, valid, VALID)
    made.authority.write_bytes(authority)
    made.certificate.write_bytes(certificate)
    made.key.touch(mode=0o600)
    made.key.write_bytes(key)
    return made
