"""The hubs' own libraries: found in this Python, and their errors told."""

from __future__ import annotations

import errno
import importlib
import os
import ssl
import sys
from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import (
    AGAIN,
    NETWORK,
    Access,
    Problem,
    clean,
    no_revision,
    refused,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import Order


def library(module: str, package: str = "") -> Any:
    """A module of the hub's library.

    Raises:
        Problem: this Python does not have it.
    """
    package = package or module
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = error.name or ""
        lacks = f"lacks {package}" if name.split(".")[0] == package else f"cannot import {package}: {clean(str(error))}"
        raise Problem(
            f"{sys.executable} {lacks}, which fetches from that hub",
            f"pip install {package}, for that Python: {sys.executable} -m pip install {package}",
        ) from None


def explained(error: BaseException, order: Order, access: Access) -> Problem:
    """The problem behind what a library raised: told by the names of the errors, as they come from several clients."""
    if isinstance(error, Problem):
        return error
    chain = linked(error)
    names = {cls.__name__ for one in chain for cls in type(one).__mro__}
    said = " ".join(str(one) for one in chain)
    codes = {one.errno for one in chain if isinstance(one, OSError)}
    status = next((s for one in chain if (s := getattr(getattr(one, "response", None), "status_code", None))), None)
    if codes & {errno.ENOSPC, errno.EDQUOT} or os.strerror(errno.ENOSPC) in said:
        return Problem(f"the disk of {order.folder or 'this machine'} is full", f"make room, then {AGAIN}")
    if "GatedRepoError" in names:
        return refused(status or 403, f"{order.name} is gated: it", access)
    if "RevisionNotFoundError" in names:
        return no_revision(order)
    if "RepositoryNotFoundError" in names or "NotExistError" in names:
        return Problem(
            f"there is no model {order.repository} on that hub, or it is private",
            f"correct the name; of a private model, give a token that may read it in {access.variable}",
        )
    if "FileIntegrityError" in names:
        return Problem(f"{order.name}: {clean(str(chain[-1]))[:300]}", AGAIN)
    if "OfflineModeIsEnabled" in names:
        return Problem("the hub is not asked: HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE where this runs")
    if isinstance(status, int) and status >= 400:
        return refused(status, order.name, access)
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in chain) or "CERTIFICATE_VERIFY_FAILED" in said:
        return Problem(
            "the certificate of the hub is not trusted", "name the file of the CA's certificates in SSL_CERT_FILE"
        )
    if names & {"ConnectionError", "ConnectError", "Timeout", "TimeoutException", "TransportError", "TimeoutError",
                "LocalEntryNotFoundError", "ProtocolError", "ChunkedEncodingError", "FileDownloadError"}:  # fmt: skip
        return Problem(f"{order.name}: the hub cannot be reached: {clean(str(chain[-1]))[:300]}", NETWORK, passing=True)
    if isinstance(error, PermissionError):
        return Problem(f"{error.filename or order.folder} cannot be written", "make the folder writable")
    return Problem(f"{order.name}: {type(error).__name__}: {clean(str(error))[:300]}", AGAIN)


def linked(error: BaseException) -> list[BaseException]:
    """An error and those that led to it, the nearest first."""
    chain: list[BaseException] = []
    pending: BaseException | None = error
    while pending is not None and pending not in chain and len(chain) < 10:
        chain.append(pending)
        failed = getattr(pending, "failed_files", None)  # what modelscope calls the errors of single files
        first = next(iter(failed.values()), None) if isinstance(failed, Mapping) else None
        pending = pending.__cause__ or (first if isinstance(first, BaseException) else None) or pending.__context__
    return chain
