"""HTTP to one Geti server: the only place that opens a connection to it.

Hides connections, TLS, the token, time limits, and what is sent again. Whatever fails is a GetiError; its text never
has the token or the address that a redirect leads to.
"""

import json
import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from pydantic import JsonValue
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InsecureRequestWarning,
    ReadTimeoutError,
    SSLError,
)

from chalicelib.geti.answers import HTML, IS_IT_GETI, JSON, Answer, data_of, error_of, file_name_of
from chalicelib.geti.errors import GetiBusy, GetiError, GetiMisconfigured, GetiRefused, NotGeti
from chalicelib.geti.exchange import USUAL, Limits, Request, Stream
from chalicelib.geti.tokens import WHERE, checked_token
from chalicelib.registry.errors import shown

CONNECTIONS = 16
ATTEMPTS = 4
CHUNK_BYTES = 1024**2
BLOCK_BYTES = 64 * 1024  # of one read from the socket
ERROR_BYTES = 64 * 1024  # of an error's body, which is read no further
MAX_WAIT_SECONDS = 30.0  # of what Geti asks to wait
# Of OpenSSL: the certificate is of another name or address; it has expired.
OTHER_NAME, EXPIRED = (62, 64), (10,)
HEADERS = {"User-Agent": "model-registry", "Accept-Encoding": "identity"}
Result = TypeVar("Result")


@dataclass(frozen=True)
class Tls:
    """How the server's certificate is checked. ca_bundle: path of a PEM file, or its text; None: the system's."""

    verify: bool = True
    ca_bundle: str | None = None

    def context(self) -> ssl.SSLContext:
        """Raises GetiMisconfigured."""
        bundle, is_text = self.ca_bundle, "-----BEGIN" in (self.ca_bundle or "")
        try:
            if bundle and is_text:
                # What is not ASCII is remarks between the certificates.
                context = ssl.create_default_context(cadata=bundle.encode("ascii", "ignore").decode())
            else:
                context = ssl.create_default_context(cafile=bundle)
        except (OSError, ValueError) as exc:
            what = "its text is" if is_text else f"{shown(bundle or '')} is"
            raise GetiMisconfigured(
                f"GETI_CA_BUNDLE: {what} no readable PEM file of certificates: {shown(str(exc))}"
            ) from exc
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


class Transport:
    """Asks one server, from any thread. `token(True)` reads the token anew; it goes to this server and nowhere else."""

    def __init__(
        self,
        base_url: str,
        token: Callable[[bool], str | None],
        tls: Tls = Tls(),
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
        limits: Limits = USUAL,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.limits = limits
        self.monotonic = monotonic
        self.sleep = sleep
        self._token = token
        self._tls = tls
        self._jitter = jitter
        self._lock = threading.Lock()
        self._pool: urllib3.HTTPConnectionPool | None = None
        self._requests = 0

    @property
    def requests(self) -> int:
        """How many were sent so far, repeated ones included."""
        return self._requests

    @property
    def has_token(self) -> bool:
        """Raises GetiMisconfigured if what there is cannot be one."""
        return self._checked_token(is_new=False) is not None

    def close(self) -> None:
        """Close what is open; it opens again when it is used."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()
            self._pool = None

    def json(self, request: Request, seconds: float | None = None) -> JsonValue:
        """The data that is answered, within this time. Raises GetiError."""
        until = self.monotonic() + (seconds or self.limits.call_seconds)

        def attempt() -> JsonValue:
            response = self._opened(request, until, self.limits.read_seconds)
            try:
                body = self._body(request, response, until)
            finally:
                _let_go(response)
            return data_of(Answer(str(request), response.status, _media_type(response), body))

        return self._repeated(request, until, attempt)

    @contextmanager
    def stream(self, request: Request, seconds: float | None = None) -> Iterator[Stream]:
        """What is answered, in chunks, the last one within this time; nothing is sent again once they begin."""
        until = self.monotonic() + (seconds or self.limits.package_seconds)

        def attempt() -> urllib3.BaseHTTPResponse:
            response = self._opened(request, until, self.limits.package_read_seconds)
            if response.status != 204 and _media_type(response) in (HTML, JSON):
                _let_go(response)
                kind = NotGeti if _media_type(response) == HTML else GetiRefused
                raise kind(f"{request} was answered with {_media_type(response)}, where a file is expected.")
            return response

        response = self._repeated(request, until, attempt)
        try:
            chunks = _chunks(self._blocks(request, response, until))
            size = response.length_remaining
            yield Stream(response.status, file_name_of(response.headers.get("Content-Disposition", "")), size, chunks)
        finally:
            _let_go(response)

    # Sending.

    def _repeated(self, request: Request, until: float, attempt: Callable[[], Result]) -> Result:
        """Full jitter, as in the AWS Architecture Blog, "Exponential Backoff And Jitter"."""
        for number in range(ATTEMPTS):
            try:
                return attempt()
            except GetiBusy as exc:
                asked = min(exc.retry_after_seconds or 0.0, MAX_WAIT_SECONDS)
                wait = max(asked, self._jitter(0, 2.0**number))
                is_last = number == ATTEMPTS - 1 or self.monotonic() + wait >= until
                if exc.is_lasting or is_last or not request.is_read:
                    raise
            self.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _opened(self, request: Request, until: float, read_seconds: float) -> urllib3.BaseHTTPResponse:
        """The head of an answer that is no error. Raises GetiError."""
        with ExitStack() as held:

            def send(target: str, token: str | None) -> urllib3.BaseHTTPResponse:
                held.close()
                response = self._sent(request, target, token, until, read_seconds)
                held.callback(_let_go, response)
                return response

            token = self._checked_token(is_new=False)
            response = send(request.target, token)
            if response.status == 401 and (renewed := self._checked_token(is_new=True)) != token:
                # It was refused before anything was done: sending it again is safe, whatever it is.
                token = renewed
                response = send(request.target, token)
            if 300 <= response.status < 400 and request.may_redirect:
                response = send(self._redirected(request, response.headers.get("Location", "")), None)
                if response.status in (401, 403):
                    raise GetiBusy(f"{request} was redirected, and refused there: it is asked for anew.")
            if response.status >= 300:
                raise self._error(request, response, until, has_token=token is not None)
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding.lower() != "identity":
                raise GetiRefused(f"{request} was answered in the encoding {shown(encoding)}, which was not asked for.")
            held.pop_all()
        return response

    def _checked_token(self, is_new: bool) -> str | None:
        token = self._token(is_new)
        return checked_token(token) if token else None

    def _redirected(self, request: Request, location: str) -> str:
        """Where a redirect leads to, on this server. Raises GetiRefused if it leads elsewhere."""
        try:
            place = urlsplit(urljoin(self.base_url + request.path, location))
            is_here = bool(location) and _origin(place) == _origin(urlsplit(self.base_url))
        except ValueError:
            is_here = False
        if not is_here:
            raise GetiRefused(
                f"{request} was redirected, but not to a place on {self.base_url}: nothing else is asked."
            )
        return f"{place.path}?{place.query}" if place.query else place.path

    def _sent(
        self, request: Request, target: str, token: str | None, until: float, read_seconds: float
    ) -> urllib3.BaseHTTPResponse:
        left = self._left(request, until)
        headers = dict(HEADERS)
        if token:
            headers["x-api-key"] = token
        if request.method == "POST":
            headers |= {"Content-Type": JSON, "x-geti-csrf-protection": "1"}
        pool = self._connections()
        with self._lock:
            self._requests += 1
        try:
            return pool.urlopen(
                request.method,
                target,
                json.dumps(request.body).encode() if request.method == "POST" else None,
                headers,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=min(self.limits.connect_seconds, left), read=min(read_seconds, left)),
                pool_timeout=left,  # type: ignore[arg-type]  # for queue.get
                preload_content=False,
                decode_content=False,
            )
        except HTTPError as exc:
            raise self._failure(request, exc) from exc

    def _left(self, request: Request, until: float) -> float:
        left = until - self.monotonic()
        if left <= 0:
            raise GetiBusy(f"{request} took too long altogether. It is tried again later.")
        return left

    def _connections(self) -> urllib3.HTTPConnectionPool:
        with self._lock:
            if self._pool is None:
                self._pool = self._new_pool()
            return self._pool

    def _new_pool(self) -> urllib3.HTTPConnectionPool:
        # Its lines for debugging have whole addresses, and those of redirects are secrets.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
        place = urlsplit(self.base_url)
        if place.scheme == "http":
            return urllib3.HTTPConnectionPool(place.hostname or "", place.port, maxsize=CONNECTIONS, block=True)
        if not self._tls.verify:
            # The operator has decided it: one warning for each request would say nothing new.
            urllib3.disable_warnings(InsecureRequestWarning)
        return urllib3.HTTPSConnectionPool(
            place.hostname or "", place.port, maxsize=CONNECTIONS, block=True, ssl_context=self._tls.context()
        )

    # Reading.

    def _body(self, request: Request, response: urllib3.BaseHTTPResponse, until: float) -> bytes:
        body = bytearray()
        for block in self._blocks(request, response, until):
            body += block
            if len(body) > self.limits.json_bytes:
                raise GetiRefused(f"{request} was answered with more than {self.limits.json_bytes} bytes.")
        return bytes(body)

    def _blocks(self, request: Request, response: urllib3.BaseHTTPResponse, until: float) -> Iterator[bytes]:
        """The body as it comes in. Raises GetiBusy unless all of it does."""
        size, received = response.length_remaining, 0
        try:
            while block := response.read1(BLOCK_BYTES):
                received += len(block)
                self._left(request, until)
                yield block
        except HTTPError as exc:
            raise _broke_off(request, received, size, exc) from exc
        if size is not None and received != size:
            raise _broke_off(request, received, size)

    def _error(self, request: Request, response: urllib3.BaseHTTPResponse, until: float, has_token: bool) -> GetiError:
        """What an answer means that is an error; its body is read as far as is needed to tell."""
        if response.status == 401 and not has_token:
            return GetiMisconfigured(f"{request} was answered with 401: it wants a token. Set {WHERE}.")
        body = bytearray()
        try:
            for block in self._blocks(request, response, until):
                body += block
                if len(body) > ERROR_BYTES:
                    break
        except GetiBusy:
            body.clear()  # The status says enough.
        return error_of(
            Answer(str(request), response.status, _media_type(response), bytes(body), _retry_after(response))
        )

    def _failure(self, request: Request, exc: HTTPError) -> GetiError:
        """What it means that there was no answer."""
        cause = exc.args[0] if isinstance(exc, SSLError) and exc.args else exc.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _distrust(self.base_url, cause)
        why = shown(str(cause or exc))
        if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return GetiMisconfigured(f"{self.base_url} does not speak TLS: {why}. {IS_IT_GETI}")
        if isinstance(exc, ReadTimeoutError):
            return GetiBusy(f"{request} was not answered in time. It is tried again later.")
        if isinstance(exc, ConnectTimeoutError):
            return GetiBusy(f"{self.base_url} cannot be reached: {why}. Is GETI_HOST right, and the way there open?")
        return GetiBusy(f"{request} broke off before it was answered: {why}. It is tried again later.")


def _origin(place: SplitResult) -> tuple[str, str | None, int | None]:
    return place.scheme, place.hostname, place.port or {"http": 80, "https": 443}.get(place.scheme)


def _distrust(base_url: str, error: ssl.SSLCertVerificationError) -> GetiMisconfigured:
    if error.verify_code in OTHER_NAME:
        return GetiMisconfigured(
            f"The certificate of {base_url} is made out to another name: {shown(error.verify_message)}."
            " Set GETI_HOST to the name that is in the certificate."
        )
    if error.verify_code in EXPIRED:
        return GetiMisconfigured(f"The certificate of {base_url} has expired: give Geti a new one.")
    return GetiMisconfigured(
        f"The certificate of {base_url} is not trusted: {shown(error.verify_message)}."
        " Set GETI_CA_BUNDLE to the certificate (PEM) of who signed it."
    )


def _broke_off(request: Request, received: int, size: int | None, exc: HTTPError | None = None) -> GetiBusy:
    why = "stood still" if isinstance(exc, ReadTimeoutError) else "broke off"
    of_all = "" if size is None else f" of {size}"
    return GetiBusy(f"The answer to {request} {why} after {received}{of_all} bytes. It is tried again later.")


def _chunks(blocks: Iterator[bytes]) -> Iterator[bytes]:
    chunk = bytearray()
    for block in blocks:
        chunk += block
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk[:CHUNK_BYTES])
            del chunk[:CHUNK_BYTES]
    if chunk:
        yield bytes(chunk)


def _media_type(response: urllib3.BaseHTTPResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    stated = response.headers.get("Retry-After", "")
    return float(stated) if stated.isascii() and stated.isdigit() else None


def _let_go(response: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back: as it is if all was read, else closed."""
    if response.length_remaining == 0:
        response.read1(1)  # notes the end of a body that has nothing in it
    response.close()
    response.release_conn()
