"""How the service is reached: address, token, TLS, and a deadline over the whole of every exchange.

Blocking on purpose: it is called from threads, so that a wedged event loop cannot keep a lease from being renewed. A
timeout of `http.client` alone starts anew with every packet, so a peer that sends a byte now and then would hold an
exchange for ever; here what is left of the deadline is set before every read. Looking a name up has no deadline in
Python; the lease's own watch (lease.py) does not depend on it.

No proxy is ever used, whatever the environment names, and no redirect is followed: nothing of this service redirects,
and whoever does must not get the token.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any, Mapping, Optional
from urllib.parse import urlsplit

from .errors import ServiceError, ServiceUnreachable

DEFAULT_URL = "http://127.0.0.1:8470"
#: The status of 5000 nodes stays below it; what is larger is not from this service.
LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
LARGEST_TOKEN_FILE_BYTES = 4096
#: What fits into a header; anything else cannot be a token of this service.
TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Answer:
    """A JSON object, and the status that it came with."""

    status: int
    body: Mapping[str, Any]
    retry_after_seconds: Optional[float]

    def problem(self) -> ServiceError:
        """This answer as the error that it tells of."""
        code, detail, outcome, reason = (self.body.get(key) for key in ("code", "detail", "outcome", "reason"))
        if not isinstance(code, str) or not isinstance(detail, str):
            return not_the_service(self.status, "no problem details")
        return ServiceError(
            code,
            detail,
            self.status,
            outcome=outcome if isinstance(outcome, str) else None,
            reason=reason if isinstance(reason, str) else None,
            retry_after_seconds=self.retry_after_seconds,
        )


def not_the_service(status: int, what: str) -> ServiceError:
    """An answer that no VSF Safety gives."""
    return ServiceError("not-the-service", f"The answer (status {status}) is not one of VSF Safety: {what}", status)


class Service:
    """One service, and one way to say who is calling. Settings that are not given come from the environment:
    `VSF_SAFETY_URL`, `VSF_SAFETY_TOKEN` or `VSF_SAFETY_TOKEN_FILE`, `VSF_SAFETY_CA_FILE`.

    Raises `ValueError` for an address or a token that cannot be one.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        token: Optional[str] = None,
        token_file: Optional[str] = None,
        ca_file: Optional[str] = None,
    ) -> None:
        env = os.environ
        self.url = (url or env.get("VSF_SAFETY_URL") or DEFAULT_URL).rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"The service's address is {self.url!r}, it must be an http:// or https:// address")
        if parts.username is not None or parts.password is not None:
            raise ValueError("The service's address must carry no user and password; a token is given by itself")
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path
        if token is None and token_file is None:
            token = env.get("VSF_SAFETY_TOKEN", "").strip() or None
            token_file = env.get("VSF_SAFETY_TOKEN_FILE") or None
        if token is not None and not TOKEN.fullmatch(token):
            raise ValueError("The token must be visible ASCII in one line")
        self._token = token
        self._token_file = token_file
        self._tls: Optional[ssl.SSLContext] = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context(cafile=ca_file or env.get("VSF_SAFETY_CA_FILE") or None)

    def ask(
        self,
        method: str,
        path: str,
        body: Optional[Mapping[str, Any]] = None,
        *,
        timeout_seconds: float,
        with_token: bool = True,
    ) -> Answer:
        """One exchange, over within `timeout_seconds`. Any status is an answer; raises `ServiceUnreachable` without
        one, and `ServiceError` (`not-the-service`) for one that is not a JSON object.
        """
        ends_at = time.monotonic() + timeout_seconds
        headers = {"Accept": "application/json", "Connection": "close"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        token = self._read_token() if with_token else None
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        payload = None if body is None else json.dumps(body).encode()
        connection = self._connect(timeout_seconds)
        try:
            connection.connect()
            connection.response_class = _responses_until(ends_at)
            _set_remaining(connection.sock, ends_at)
            connection.request(method, self._path + path, payload, headers)
            response = connection.getresponse()
            text = response.read(LARGEST_ANSWER_BYTES + 1)
        except socket.timeout:
            why = f"no answer within {timeout_seconds:.3g} s"
            raise ServiceUnreachable(f"Cannot reach {self.url}: {why}") from None
        except (OSError, http.client.HTTPException) as error:
            raise ServiceUnreachable(f"Cannot reach {self.url}: {_text_of(error)}") from error
        finally:
            connection.close()
        return _answer_of(response.status, response.getheader("retry-after"), text)

    @property
    def has_token(self) -> bool:
        return self._token is not None or self._token_file is not None

    def _connect(self, timeout_seconds: float) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_seconds)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_seconds, context=self._tls)

    def _read_token(self) -> Optional[str]:
        if self._token_file is None:
            return self._token
        # Read anew each time: a cluster replaces the tokens that it mounts.
        try:
            with open(self._token_file, encoding="ascii") as file:
                token = file.read(LARGEST_TOKEN_FILE_BYTES).strip()
        except (OSError, ValueError) as error:
            raise ServiceUnreachable(f"Cannot read the token file {self._token_file}: {error}") from error
        if not TOKEN.fullmatch(token):
            raise ServiceUnreachable(f"The token file {self._token_file} holds no token: one line of visible ASCII")
        return token


def _answer_of(status: int, retry_after: Optional[str], text: bytes) -> Answer:
    if len(text) > LARGEST_ANSWER_BYTES:
        raise not_the_service(status, f"larger than {LARGEST_ANSWER_BYTES} bytes")
    body: object = {}
    if text:
        try:
            body = json.loads(text)
        # Deep nesting ends in RecursionError; that is no answer of this service either.
        except (ValueError, RecursionError):
            raise not_the_service(status, "no JSON") from None
    if not isinstance(body, dict):
        raise not_the_service(status, "no JSON object")
    is_seconds = retry_after is not None and re.fullmatch(r"\d{1,6}", retry_after) is not None
    return Answer(status, body, float(retry_after) if is_seconds and retry_after is not None else None)


def _text_of(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused, nothing listens there. Is the service running? (vsf-safety serve)"
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be looked up ({error.strerror})"
    return str(error) or type(error).__name__


def _set_remaining(sock: socket.socket, ends_at: float) -> None:
    left = ends_at - time.monotonic()
    if left <= 0:
        raise socket.timeout("the deadline is over")
    sock.settimeout(left)


class _ReadUntil(io.RawIOBase):
    """A socket's inbound side that raises once the deadline is over, however often a byte comes."""

    def __init__(self, sock: socket.socket, ends_at: float) -> None:
        self._sock = sock
        self._ends_at = ends_at
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        _set_remaining(self._sock, self._ends_at)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _responses_until(ends_at: float) -> Any:
    """A response class for http.client whose reads share one deadline."""

    class Inbound:
        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock

        def makefile(self, *_mode: object, **_options: object) -> io.BufferedReader:
            return io.BufferedReader(_ReadUntil(self._sock, ends_at))

    def respond(sock: socket.socket, **options: Any) -> http.client.HTTPResponse:
        inbound: Any = Inbound(sock)
        return http.client.HTTPResponse(inbound, **options)

    return respond
