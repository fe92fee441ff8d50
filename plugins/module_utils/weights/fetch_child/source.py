"""One kind of source, and fetching from it by ranges."""

from __future__ import annotations

import errno
import http.client
import os
from collections.abc import Sequence

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.attempts import at_once, patiently
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.paths import inside
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import (
    AGAIN,
    Access,
    Problem,
    secret,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import File, Listing, Order
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.web import Web, state_in, unreachable

BLOCK = 1024 * 1024


class Source:
    """One kind of source: `listing`, the address of each file for ranged reads, and how to fetch files."""

    access: Access
    leftovers: Sequence[str] = ()  # of the library, beside the model: what it has not finished, and its records

    def __init__(self, order: Order) -> None:
        self.order = order
        self.web = Web(order.name, self.access, self.headers())

    @property
    def credential(self) -> str:
        """What the environment says; '' where it says none.

        Raises:
            Problem: it cannot be one.
        """
        return secret(self.access.variable)

    def headers(self) -> dict[str, str]:
        """What authorizes a request."""
        raise NotImplementedError

    def listing(self) -> Listing:
        """The files at the source now.

        Raises:
            Problem: there is no such source, or it cannot be reached.
        """
        raise NotImplementedError

    def address(self, file: File, listing: Listing) -> str:
        """URL of a file's content."""
        raise NotImplementedError

    def fetch(self, listing: Listing) -> None:
        """Bring the listing's files into the order's folder; those that are there are not fetched again.

        By ranges: several files at once, the largest first, and each goes on at the byte where an earlier fetch ended.
        """
        at_once(lambda file: self._fetch(file, listing), sorted(listing.files, key=lambda file: -file.size))

    def _fetch(self, file: File, listing: Listing) -> None:
        target = inside(self.order.folder, file.path)
        if os.path.isfile(target) and os.path.getsize(target) == file.size:
            return
        part = f"{target}.part"
        os.makedirs(os.path.dirname(part), exist_ok=True)

        def once() -> None:
            have = os.path.getsize(part) if os.path.exists(part) else 0
            if have > file.size:
                have = 0
            if have < file.size or not os.path.exists(part):
                self._receive(file, self.address(file, listing), part, have)

        patiently(once, lambda: os.path.getsize(part) if os.path.exists(part) else 0)
        os.replace(part, target)

    def _receive(self, file: File, url: str, part: str, have: int) -> None:
        with self.web.open(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
            continued = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if not file.sha256 and file.state and state_in(answer.headers) != file.state:
                raise Problem(f"{file.path} of {self.order.name} changed while it was fetched", "run it again")
            with open(part, "r+b" if continued else "wb") as stream:
                stream.seek(have if continued else 0)
                stream.truncate()
                try:
                    while block := answer.read(BLOCK):
                        stream.write(block)
                        if stream.tell() > file.size:
                            break
                except http.client.HTTPException as error:
                    raise unreachable(error, url) from None
                except OSError as error:
                    raise (
                        unreachable(error, url) if error.errno not in (errno.ENOSPC, errno.EDQUOT) else error
                    ) from None
                end = stream.tell()
        if end > file.size:
            raise Problem(f"{file.path} of {self.order.name} is longer than its {file.size} bytes", "correct its list")
        if end < file.size:
            raise Problem(f"{file.path}: the connection ended after {end} of {file.size} bytes", AGAIN, passing=True)
