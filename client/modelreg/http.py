"""The one place that talks HTTP to the registry's API.

Promises: paths are joined to the base URL, never replace it; the token goes to the base URL only; what is safe to
repeat is repeated; every refusal is one of our errors; no error shows a credential, no line of httpx's log the query
of a URL. Presigned URLs are not called from here: storage.py has a client without credentials for them.
"""

import base64
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import httpx

from modelreg.answers import LASTING, error_of, next_query, parsed, shown_url
from modelreg.errors import (
    ConnectionFailed,
    InProgress,
    InvalidInput,
    LocalError,
    NotARegistry,
    NotFound,
    RegistryError,
    Sent,
    Unauthorized,
    Unavailable,
)
from modelreg.retry import TRANSIENT_STATUSES, Attempts, Patience
from modelreg.tokens import PREFIX, is_whole

T = TypeVar("T")
USER_AGENT = "modelreg-python"
CONNECT_SECONDS = 10.0
MAX_PAGE = 1000
_QUERY = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")
# What a request certainly was not acted on after; all else may have been done, its answer lost.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


def _cut_queries(record: logging.LogRecord) -> bool:
    """Takes the query from each URL in a line of the log: a presigned one's is a secret."""
    text = record.getMessage()
    if _QUERY.search(text):
        record.msg, record.args = _QUERY.sub(r"\1?...", text), ()
    return True


# A filter sees what its own logger is told, not what the loggers below it are.
for _name in ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks"))):
    logging.getLogger(_name).addFilter(_cut_queries)


class Api:
    """Calls of the registry's API. Safe to use from several threads."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        timeout_seconds: float,
        patience: Patience,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url, authorization = split_credentials(url, token)
        self._sent = _kind_of(authorization)
        self.patience = patience
        self._timeout_seconds = timeout_seconds
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if authorization:
            headers["Authorization"] = authorization
        self._client = new_client(headers=headers, timeout=timeout(timeout_seconds), transport=transport)

    def __repr__(self) -> str:
        return f"Api({self.url!r})"

    def close(self) -> None:
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        repeats: bool = True,
        attempts: Attempts | None = None,
        read_seconds: float | None = None,
        may_redirect: bool = False,
        **content: Any,
    ) -> httpx.Response:
        """The answer, of a status below 300, or below 400 where it may redirect.

        repeats: whether a request whose answer was lost may be sent once more. attempts: how often, if not as usual;
        its `failures` say afterwards how many went wrong before.
        """
        attempts, running = attempts or Attempts(self.patience, self.patience.call_attempts), None
        if read_seconds:
            content["timeout"] = timeout(self._timeout_seconds, read_seconds=max(read_seconds, self._timeout_seconds))
        while True:
            error, is_transient = self._try(method, path, repeats, content)
            if isinstance(error, httpx.Response):
                if error.status_code >= 300 and not may_redirect:
                    raise NotARegistry(f"{shown_url(error)} redirects elsewhere instead of answering.")
                return error
            if not is_transient:
                raise error
            if isinstance(error, InProgress):
                # No failure: it ends, or is known to have been cut off, within the time of one request.
                running = running or Attempts(
                    self.patience, 0, stop=attempts.stop, deadline_seconds=self.patience.running_seconds
                )
                running.failed(error)
            else:
                attempts.failed(error)

    def _try(
        self, method: str, path: str, repeats: bool, content: Mapping[str, Any]
    ) -> tuple[httpx.Response | RegistryError, bool]:
        """The answer or the error, and whether the same request may be sent again."""
        try:
            response = self._client.request(method, f"{self.url}{path}", **content)
        except httpx.TransportError as exc:
            return self._connection_failed(exc), repeats or isinstance(exc, _NOT_SENT)
        except UnicodeEncodeError:
            return InvalidInput("A value holds half a character, which no text may."), False
        except (httpx.DecodingError, httpx.InvalidURL) as exc:
            return NotARegistry(f"{self.url} answered in a way that cannot be read ({type(exc).__name__})."), False
        if response.status_code < 400:
            return response, False
        error = error_of(response)
        if isinstance(error, Unauthorized):
            error = Unauthorized(str(error), sent=self._sent, code=error.code)
        return error, _may_repeat(response, error, repeats)

    def _connection_failed(self, exc: httpx.TransportError) -> ConnectionFailed:
        if isinstance(exc, httpx.TimeoutException):
            return ConnectionFailed(f"{self.url} did not answer in time.")
        why = re.sub(r"\?\S+", "", str(exc)) or type(exc).__name__
        return ConnectionFailed(f"{self.url} cannot be reached: {why}.")

    def answer(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        """The answer, typed; options as for request."""
        return parsed(kind, self.request(method, path, **options))

    def delete(self, path: str) -> None:
        """Raises NotFound, but not where an earlier try, whose answer was lost, may have deleted it."""
        attempts = Attempts(self.patience, self.patience.call_attempts)
        try:
            response = self.request("DELETE", path, attempts=attempts)
        except NotFound:
            if not attempts.failures:
                raise
            return
        if response.status_code != 204:
            raise NotARegistry(f"{shown_url(response)} did not answer a deletion as a model registry does.")

    def pages(self, kind: type[T], path: str, query: Mapping[str, str]) -> Iterator[T]:
        """Each page in turn, asked for when it is needed. A page may be empty and have another one behind it."""
        following: dict[str, str] | None = dict(query)
        while following is not None:
            asked = following
            response = self.request("GET", path, params=asked)
            yield parsed(kind, response)
            following = next_query(response)
            if following == asked:
                raise NotARegistry(f"{self.url}{path} announces the same page again and again.")


def new_client(**options: Any) -> httpx.Client:
    """A client that follows no redirect. Raises LocalError if this machine's settings for the network are no good."""
    try:
        return httpx.Client(follow_redirects=False, **options)
    except (ValueError, ImportError, OSError) as exc:
        # Not shown: a proxy's URL may hold a password.
        raise LocalError(
            f"The network cannot be used as this machine is set up ({type(exc).__name__}).",
            hint="Check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR.",
        ) from None


def timeout(seconds: float, *, read_seconds: float | None = None) -> httpx.Timeout:
    """Of silence, that is, not of the whole request."""
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS), read=read_seconds or seconds, pool=None)


def page_query(limit: int | None) -> dict[str, str]:
    """The query for pages of at most so many."""
    if limit is not None and limit < 0:
        raise InvalidInput(f"limit is {limit}; it must not be negative.", field="limit")
    return {"limit": str(max(1, min(limit, MAX_PAGE)))} if limit is not None else {}


def segment(identifier: str) -> str:
    """An id as part of a path. Raises InvalidInput for what would lead elsewhere."""
    if not identifier or identifier in (".", "..") or not isinstance(identifier, str):
        raise InvalidInput(f"{identifier!r} is not an id.", field="id")
    try:
        return quote(identifier, safe="")
    except UnicodeEncodeError:
        raise InvalidInput(f"{identifier!r} is not an id.", field="id") from None


def split_credentials(url: str, token: str | None) -> tuple[str, str | None]:
    """The URL without its credentials, and the Authorization header to send. An explicit token comes first."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(
            "The URL of a registry begins with http:// or https:// and names a host.",
            field="url",
            hint="Take it as `https://host/path`, without /models at its end.",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    base = f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"
    return base, _authorization(token, parts.username, parts.password)


def _authorization(token: str | None, user: str | None, password: str | None) -> str | None:
    if password and not token:
        pair = f"{unquote(user or '')}:{unquote(password)}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
    bearer = token or unquote(user or "")
    # Checked here, because the error of whoever refuses such a header would show it.
    if not bearer.isascii() or not bearer.isprintable() or " " in bearer:
        raise InvalidInput("The token has characters that no token has.", field="token")
    return f"Bearer {bearer}" if bearer else None


def _kind_of(authorization: str | None) -> Sent:
    """What such a header is, for the hint of an error; the header itself is kept nowhere."""
    if authorization is None:
        return Sent.NOTHING
    scheme, _, value = authorization.partition(" ")
    token = base64.b64decode(value).decode().partition(":")[2] if scheme == "Basic" else value
    return Sent.DAMAGED if token.startswith(PREFIX) and not is_whole(token) else Sent.WHOLE


def _may_repeat(response: httpx.Response, error: RegistryError, repeats: bool) -> bool:
    if isinstance(error, InProgress):
        return True  # which only a request with an Idempotency-Key is told
    if response.status_code not in TRANSIENT_STATUSES or error.code in LASTING:
        return False
    # The registry says 503 and 429 before it changes anything, unless it says that it does not know.
    was_refused = isinstance(error, Unavailable) and response.status_code in (429, 503)
    return repeats or (was_refused and error.code != "outcome_unknown")
