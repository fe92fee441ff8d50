"""One HTTP client for package pages and files: TLS, logins, proxies, retries, and errors that say what to do."""

from __future__ import annotations

import email.utils
import netrc
import os
import queue
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

import httpx

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments.sources import PackageSources, without_credentials

Item = TypeVar("Item")
Result = TypeVar("Result")

# A connection that says nothing for so long is given up and opened again.
READ_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 20.0
ATTEMPTS = 5  # failures in a row, with nothing gained between them
FIRST_PAUSE_S = 0.5  # doubled with every failure
LONGEST_RETRY_AFTER_S = 120.0
LEAVE_S = 1.0  # how long threads that were told to stop are waited for
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
LOGIN_NEEDED = frozenset({401, 403, 407})
MISSING = frozenset({404, 410})

CHECK_NETWORK = "check the network, HTTPS_PROXY and sources.yml, then run it again: it goes on where it was"
CHECK_LOGIN = "put the login into ~/.netrc, or into the variables that sources.yml names"


class Stopped(Exception):
    """The work was called off."""


class Busy(Exception):
    """The server asks to come back later.

    Args:
        status: of its answer.
        pause: seconds that it names, if any.
    """

    def __init__(self, status: int, pause: float | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.pause = pause


class _Login(httpx.Auth):
    """The login in the URL, else the one in ~/.netrc, which httpx reads only when it is told to."""

    def __init__(self) -> None:
        try:
            self._netrc: netrc.netrc | None = netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc")
        except (OSError, RuntimeError, netrc.NetrcParseError, UnicodeDecodeError):
            self._netrc = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the login to a request."""
        login = (request.url.username, request.url.password)
        if not any(login) and self._netrc is not None and (found := self._netrc.authenticators(request.url.host)):
            login = (found[0], found[2] or "")
        if any(login):
            yield from httpx.BasicAuth(*login).auth_flow(request)
        else:
            yield request


def open_client(sources: PackageSources, connections: int) -> httpx.Client:
    """A client that trusts the system's certificates, certifi's and that of `sources`; proxies as in the environment.

    Raises:
        DeployError: the certificate of `sources` cannot be read.
    """
    context = httpx.create_ssl_context()
    context.load_default_certs()
    if certificate := sources.certificate:
        where = {"capath": certificate} if os.path.isdir(certificate) else {"cafile": certificate}
        try:
            context.load_verify_locations(**where)
        except (OSError, ssl.SSLError) as error:
            raise DeployError(
                f"the certificates in {certificate} cannot be read: {error}",
                fix="correct pip's setting `cert`, or SSL_CERT_FILE",
            ) from None
    return httpx.Client(
        auth=_Login(),
        verify=context,
        follow_redirects=True,
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, pool=None),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
    )


class Patience:
    """Waits between attempts, longer each time, until it has failed too often in a row."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._failures = 0

    def renew(self) -> None:
        """Something was gained: count from one again."""
        self._failures = 0

    def wait(self, error: httpx.TransportError | Busy) -> bool:
        """Wait for the next attempt; False when there should be none.

        Raises:
            Stopped: the work was called off meanwhile.
        """
        self._failures += 1
        asked = error.pause if isinstance(error, Busy) else None
        hopeless = isinstance(error, httpx.UnsupportedProtocol) or "CERTIFICATE_VERIFY_FAILED" in str(error)
        if hopeless or self._failures >= ATTEMPTS or (asked or 0) > LONGEST_RETRY_AFTER_S:
            return False
        if self._stopped.wait(FIRST_PAUSE_S * 2 ** (self._failures - 1) if asked is None else asked):
            raise Stopped
        return True


def check_status(answer: httpx.Response, name: str, url: str) -> None:
    """Refuse an answer that does not bring what was asked for.

    Args:
        answer: with its headers read.
        name: what was asked for.
        url: where it was asked for; credentials in it are not shown.

    Raises:
        Busy: another attempt may do.
        DeployError: it will not.
    """
    status = answer.status_code
    if answer.is_success:
        return
    if status in BUSY:
        raise Busy(status, retry_after(answer.headers.get("Retry-After", "")))
    where = without_credentials(url)
    if status in LOGIN_NEEDED:
        raise DeployError(f"{name}: {where} is refused without a valid login (HTTP {status})", fix=CHECK_LOGIN)
    if status in MISSING:
        raise DeployError(f"{name} is not at {where} (HTTP {status})", fix="correct sources.yml, or lock again")
    raise DeployError(f"{name}: {where} answers HTTP {status}", fix=CHECK_NETWORK)


def unreachable(name: str, url: str, error: Exception) -> DeployError:
    """The error for what could not be fetched however often it was tried."""
    said = str(error) or type(error).__name__
    fix = "name the CA's certificate: `pip config set global.cert FILE`" if "CERTIFICATE" in said else CHECK_NETWORK
    return DeployError(f"{name} cannot be fetched from {without_credentials(url)}: {said}", fix=fix)


def retry_after(text: str) -> float | None:
    """Seconds that a Retry-After header names, by number or by date; None when it says nothing of use."""
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def in_parallel(
    items: Sequence[Item],
    work: Callable[[Item, threading.Event], Result],
    threads: int,
    on_result: Callable[[Item, Result], None],
) -> None:
    """Do `work` for every item; `on_result` is called here, in the order in which they end.

    The first exception, Ctrl-C included, sets the event that `work` is given, and is raised without waiting for
    connections that are silent: a pool of `concurrent.futures` would wait for them, at the latest at exit.
    """
    waiting = deque(items)
    ended: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            try:
                item = waiting.popleft()
            except IndexError:
                return
            try:
                ended.put(partial(on_result, item, work(item, stopped)))
            except BaseException as error:
                ended.put(partial(_raise, error))

    started = [threading.Thread(target=run, daemon=True) for _ in range(min(threads, len(items)))]
    try:
        for thread in started:
            thread.start()
        for _ in items:
            ended.get()()
    finally:
        stopped.set()
        deadline = time.monotonic() + LEAVE_S
        for thread in started:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))


def _raise(error: BaseException) -> NoReturn:
    raise error
