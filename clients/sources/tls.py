"""Certificates of cameras behind rtsps:// and https://: verified unless a camera says otherwise.

FFmpeg verifies nothing by default, looks for authorities where other systems keep them, says "Input/output error" of a
certificate that it refuses, and forgets all about it for what an HLS playlist names. So it is told to verify and by
whom, the reason of a refusal is asked for once more, and playlists over https are fetched by Python's own client.
"""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from clients.errors import SourceError
from clients.types import TlsOptions

_SCHEMES = {"https": 443, "rtsps": 322}
NATIVE_PLAYLIST = {"http_persistent": "0", "http_multiple": "0"}  # FFmpeg's own connections are not used


def is_encrypted(target: str) -> bool:
    """Whether the address is one of TLS."""
    return target.partition("://")[0].lower() in _SCHEMES


def ffmpeg_options(target: str, tls: TlsOptions) -> dict[str, str]:
    """What FFmpeg is to be told to open `target`."""
    if not is_encrypted(target):
        return {}
    if not tls.verify:
        return {"tls_verify": "0"}
    authorities = tls.ca or ssl.get_default_verify_paths().cafile
    return {"tls_verify": "1"} | ({"ca_file": str(authorities)} if authorities else {})


def problem_of(ca: Path) -> str | None:
    """Why a file of certificates cannot be used; None when it can."""
    try:
        ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        return f"{ca}: holds no certificate in PEM"
    except OSError as error:
        return f"{ca}: cannot be read: {error.strerror}"
    return None


def refusal(target: str, tls: TlsOptions, timeout_s: float) -> str | None:
    """Why the certificate at `target` is not trusted, by asking for it once; None when that is not what is wrong."""
    if not (is_encrypted(target) and tls.verify):
        return None
    url = urlsplit(target)
    host = url.hostname or ""
    try:
        with (
            socket.create_connection((host, url.port or _SCHEMES[url.scheme.lower()]), timeout_s) as plain,
            _context(tls).wrap_socket(plain, server_hostname=host),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (OSError, ValueError):
        return None


def verified_opener(about: str, tls: TlsOptions, timeout_s: float) -> Callable[[str, int, dict[str, str]], _Body]:
    """What PyAV calls to open a playlist and each of its segments. `about` begins the text of a SourceError."""
    context = _context(tls)

    def open_url(url: str, _flags: int, _options: dict[str, str]) -> _Body:
        try:
            answer = urllib.request.urlopen(_request(url), timeout=timeout_s, context=context)
        except (OSError, HTTPException, ValueError) as error:
            raise SourceError(f"{about}: {_reason(error)}") from None
        return _Body(answer, about)

    return open_url


class _Body:
    """The body of an answer, read as it comes."""

    def __init__(self, answer: HTTPResponse, about: str) -> None:
        self._answer = answer
        self._about = about

    def read(self, size: int) -> bytes:
        try:
            return self._answer.read1(size)
        except (OSError, HTTPException) as error:
            raise SourceError(f"{self._about}: {_reason(error)}") from None

    def close(self) -> None:
        self._answer.close()


def _context(tls: TlsOptions) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=tls.ca)


def _request(text: str) -> urllib.request.Request:
    """A login in the URL becomes a header of the basic kind. Raises ValueError for anything but http and https."""
    url = urlsplit(text)
    if url.scheme not in ("http", "https"):
        raise ValueError(f"a playlist may name http and https only, got {url.scheme}")
    host = url.netloc.rpartition("@")[2]
    request = urllib.request.Request(urlunsplit(url._replace(netloc=host)))
    if url.username is not None:
        request.add_header("Authorization", f"Basic {b64encode(_login(url)).decode()}")
    return request


def _login(url: SplitResult) -> bytes:
    return f"{unquote(url.username or '')}:{unquote(url.password or '')}".encode()


def _reason(error: Exception) -> str:
    """One line without the address."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"cannot be opened: the server answers {error.code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return refused(cause.verify_message)
    if isinstance(cause, TimeoutError):
        return "no data in time"
    return f"cannot be read: {getattr(cause, 'strerror', None) or type(cause).__name__}"


def refused(reason: str) -> str:
    """What is said of a certificate that is not trusted."""
    return f"its certificate is not trusted: {reason} (tls_ca names who is, tls_verify: false asks nobody)"
