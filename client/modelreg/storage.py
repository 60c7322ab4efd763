"""Calls of presigned URLs: bytes to S3 and back.

Promises: no credential but the one in the URL is sent, no redirect is followed, and no error, log line or repr shows
the query of a URL, which is its secret. Hides what S3's many answers come down to for a transfer: `Outcome`.
"""

import enum
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx

from modelreg.http import USER_AGENT, new_client, timeout
from modelreg.retry import TRANSIENT_STATUSES, Stopped, retry_after_seconds

CHUNK_BYTES = 1024**2  # httpcore copies what it sends piece by piece: smaller pieces cost calls, larger ones cache
MIN_TIMEOUT_SECONDS = 60.0  # of silence; S3 may be slow to answer a large part
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,80})\s*</Code>")
_EXPIRED_CODES = ("ExpiredToken", "TokenRefreshRequired", "InvalidToken", "RequestExpired")
_OTHER_BYTES_CODES = ("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch")
_TRANSIENT_CODES = ("RequestTimeout", "IncompleteBody", "SlowDown", "ConditionalRequestConflict", "OperationAborted")


class Outcome(enum.Enum):
    """What a refusal comes down to."""

    TRANSIENT = "try again"
    EXPIRED = "ask for another URL"
    OTHER_BYTES = "other bytes arrived than were announced"
    GONE = "there is no such upload or object"
    EXISTS = "the object is there already"
    REFUSED = "trying again does not help"


class StorageRefusal(Exception):
    """S3 did not do what was asked; `reason` may be shown."""

    def __init__(self, outcome: Outcome, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.retry_after_seconds = retry_after


class Storage:
    """Presigned URLs, called. Safe to use from several threads."""

    def __init__(self, *, timeout_seconds: float, parallel: int, transport: httpx.BaseTransport | None = None) -> None:
        self._client = new_client(
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            timeout=timeout(max(timeout_seconds, MIN_TIMEOUT_SECONDS)),
            limits=httpx.Limits(max_connections=parallel + 4, max_keepalive_connections=parallel + 4),
            transport=transport,
        )

    def close(self) -> None:
        self._client.close()

    def put(
        self,
        url: str,
        headers: Mapping[str, str],
        body: memoryview,
        *,
        sent: Callable[[int], None],
        stop: threading.Event,
    ) -> str:
        """The ETag of what was stored. sent hears how many bytes of the body are on their way.

        Raises StorageRefusal, and Stopped as soon as stop is set.
        """
        own = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        own["Content-Length"] = str(len(body))
        with self._calling("PUT", url, own, _pieces(body, sent, stop)) as response:
            response.read()
            if response.status_code != 200:
                raise _refusal(response)
            etag: str = response.headers.get("etag", "")
            if not etag:
                raise StorageRefusal(Outcome.TRANSIENT, "the answer has no ETag")
            return etag

    @contextmanager
    def get(self, url: str, first: int, end: int) -> Iterator[httpx.Response]:
        """The answer to a GET of the bytes from first up to, not including, end: 206, or 200 if that is all of it.

        Raises StorageRefusal, also for what goes wrong while the body is read.
        """
        with self._calling("GET", url, {"Range": f"bytes={first}-{end - 1}"}, None) as response:
            if response.status_code not in (200, 206):
                response.read()
                raise _refusal(response)
            yield response

    @contextmanager
    def _calling(
        self, method: str, url: str, headers: Mapping[str, str], content: Iterator[memoryview] | None
    ) -> Iterator[httpx.Response]:
        try:
            request = self._client.build_request(
                method,
                url,
                headers=headers,
                content=content,  # type: ignore[arg-type]  # memoryviews are sent without a copy of the whole
            )
            response = self._client.send(request, stream=True, follow_redirects=False)
            try:
                yield response
            finally:
                response.close()
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeEncodeError):
            raise StorageRefusal(Outcome.REFUSED, "the registry gave an address that is none") from None
        except httpx.HTTPError as exc:
            # Not chained: the request that hangs on httpx's errors has the URL's headers.
            raise StorageRefusal(Outcome.TRANSIENT, _in_words(exc, httpx.URL(url).host)) from None


def _pieces(body: memoryview, sent: Callable[[int], None], stop: threading.Event) -> Iterator[memoryview]:
    for at in range(0, len(body), CHUNK_BYTES):
        if stop.is_set():
            raise Stopped
        piece = body[at : at + CHUNK_BYTES]
        yield piece
        sent(at + len(piece))


def _refusal(response: httpx.Response) -> StorageRefusal:
    found = _CODE.search(response.content[:4096])
    code = found[1].decode() if found else ""
    reason = f"S3 answered {response.status_code}{f' {code}' if code else ''}"
    return StorageRefusal(
        _outcome(response.status_code, code), reason, retry_after_seconds(response.headers.get("retry-after"))
    )


def _outcome(status: int, code: str) -> Outcome:
    if code in _OTHER_BYTES_CODES:
        return Outcome.OTHER_BYTES
    if status == 403 or code in _EXPIRED_CODES:
        return Outcome.EXPIRED
    if status in TRANSIENT_STATUSES or status >= 500 or code in _TRANSIENT_CODES:
        return Outcome.TRANSIENT
    return {404: Outcome.GONE, 409: Outcome.TRANSIENT, 412: Outcome.EXISTS}.get(status, Outcome.REFUSED)


def _in_words(exc: httpx.HTTPError, host: str) -> str:
    if isinstance(exc, httpx.TimeoutException):
        return f"{host} did not answer in time"
    why = re.sub(r"\?\S+", "", str(exc)) or type(exc).__name__
    return f"the connection to {host} failed ({why})"
