"""HTTP: requests that are authorized, tried again, and fail with what to do."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import IO, Any
from urllib.parse import urlsplit

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.attempts import patiently
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import (
    NETWORK,
    Access,
    Problem,
    clean,
    refused,
)

AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # what other clients read; Python itself reads SSL_CERT_FILE
TIMEOUT_S = 60.0
LARGEST_PAGE = 64 * 1024 * 1024


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and leaves credentials behind where they lead to another server: a hub's storage is one."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """As the base class; http and https alone."""
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise Problem(f"{clean(req.full_url)} redirects to no http address", "correct the address")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.method = req.get_method()
            if origin(newurl) != origin(req.full_url):
                for name in ("Authorization", "Cookie"):
                    following.remove_header(name)
        return following


class Web:
    """Requests to one source, with errors that say what to do.

    Args:
        name: what messages call the source.
        access: what credentials it wants.
        headers: that authorize a request.
    """

    def __init__(self, name: str, access: Access, headers: Mapping[str, str]) -> None:
        self.name, self.access = name, access
        self.headers = {"Accept-Encoding": "identity", "User-Agent": "sglang-deployer", **headers}
        self.opener = urllib.request.build_opener(Redirects(), urllib.request.HTTPSHandler(context=trust()))

    def open(self, url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Any:
        """The answer to one request, to be closed; status 2xx.

        Raises:
            Missing: 404, 410.
            Problem: any other failure; `passing` where another attempt may do.
        """
        request = urllib.request.Request(url, headers={**self.headers, **(headers or {})}, method=method)
        try:
            return self.opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            raise refused(error.code, self.name, self.access) from None
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(error, url) from None

    def read(self, url: str, length: int, whole: bool = False) -> bytes:
        """The first `length` bytes, or all of a shorter file.

        Args:
            whole: the file is no longer; it is not asked for by a range.
        Raises:
            Problem: as `open`; or there are more bytes than `length`, and `whole`.
        """

        def once() -> bytes:
            with self.open(url, None if whole else {"Range": f"bytes=0-{length - 1}"}) as answer:
                try:
                    content: bytes = answer.read(length + 1 if whole else length)
                    stated = answer.headers.get("Content-Length")
                    if stated is not None and len(content) < min(int(stated), length):
                        raise http.client.IncompleteRead(content)
                except (OSError, http.client.HTTPException) as error:
                    raise unreachable(error, url) from None
            if whole and len(content) > length:
                raise Problem(f"{clean(url)} is longer than {length} bytes", "see what that server answers there")
            return content

        return patiently(once)


def unreachable(error: BaseException, url: str) -> Problem:
    """The problem that a failed connection is."""
    if isinstance(error, Problem):
        return error
    reason = getattr(error, "reason", error)
    said = clean(str(reason) or type(reason).__name__)
    if isinstance(reason, ssl.SSLCertVerificationError):
        fix = "name the file of the CA's certificates in SSL_CERT_FILE"
        return Problem(f"the certificate of {origin(url)} is not trusted: {said}", fix)
    return Problem(f"{origin(url)} cannot be reached: {said}", NETWORK, passing=True)


def trust() -> ssl.SSLContext:
    """Python's own authorities, certifi's where it is there, and those that the environment names for other clients."""
    context = ssl.create_default_context()
    files = [os.environ[name] for name in AUTHORITIES if os.environ.get(name)]
    with contextlib.suppress(ImportError):
        files.append(str(importlib.import_module("certifi").where()))
    for path in files:
        with contextlib.suppress(OSError):
            context.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})
    return context


def origin(url: str) -> str:
    """Scheme, host and port."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def state_in(headers: Message) -> str:
    """What a web server says that changes with the content of a file."""
    return str(headers.get("ETag") or headers.get("Last-Modified") or "")
