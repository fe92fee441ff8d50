"""ModelScope."""

from __future__ import annotations

import glob
import inspect
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlsplit

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.libraries import explained, library
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.paths import safe
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import (
    Access,
    Missing,
    Problem,
    clean,
    no_revision,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import (
    File,
    Listing,
    parsed,
    state_of,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.source import Source
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.web import LARGEST_PAGE, origin

MODELSCOPE_LISTING = 3000  # entries; the hub leaves out the rest without a word


class ModelScope(Source):
    """A model on ModelScope. Its API is asked here: the library's own calls differ between its versions."""

    access = Access("MODELSCOPE_API_TOKEN", "what its page asks for has to be agreed to there")
    leftovers = ("._____temp", ".msc", ".mdl", ".mv")

    def headers(self) -> dict[str, str]:
        """The token as the library sends it: as a header, and as the cookie that older parts of the API read."""
        token = self.credential
        return {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}

    @property
    def endpoint(self) -> str:
        """As the library has it."""
        domain = os.environ.get("MODELSCOPE_DOMAIN", "").strip() or "www.modelscope.cn"
        return (os.environ.get("MODELSCOPE_ENDPOINT", "").strip() or f"https://{domain}").rstrip("/")

    @property
    def api(self) -> str:
        """The address of the model in the API."""
        return f"{self.endpoint}/api/v1/models/{self.order.repository}"

    def listing(self) -> Listing:
        """One request, which gives every file's sha256, too."""
        try:
            found = self._ask(f"{self.api}/repo/files?Revision={quote_plus(self.order.revision)}&Recursive=True")
        except Missing:
            raise self._missing() from None
        entries = found if isinstance(found, list) else found.get("Files") or []
        if len(entries) >= MODELSCOPE_LISTING:
            raise Problem(
                f"{self.order.name} has {len(entries)} entries or more, and ModelScope lists no more than that",
                "download the model with git, and give its folder",
            )
        files = [_modelscope_file(entry) for entry in entries if entry.get("Type") != "tree"]
        if not files:
            raise self._missing()
        files.sort(key=lambda file: file.path)
        return Listing(state_of(files), tuple(files))

    def _ask(self, url: str) -> Any:
        answer = parsed(self.web.read(url, LARGEST_PAGE, whole=True))
        if not isinstance(answer, Mapping) or answer.get("Success") is False or "Data" not in answer:
            said = answer.get("Message", "") if isinstance(answer, Mapping) else "something else than its API does"
            raise Missing(f"{origin(url)} says of {self.order.name}: {clean(str(said))[:200]}", "correct the source")
        return answer["Data"]

    def _missing(self) -> Problem:
        """Tell a missing model from a missing revision, which that request does not."""
        try:
            named = self._ask(f"{self.api}/revisions").get("RevisionMap") or {}
            known = [str(one.get("Revision")) for key in ("Branches", "Tags") for one in named.get(key) or ()]
        except (Missing, AttributeError):
            fix = f"correct the name; of a private model, give a token in {self.access.variable}; of the international "
            fix += "site, set MODELSCOPE_ENDPOINT"
            return Problem(f"there is no model {self.order.repository} on {origin(self.endpoint)}", fix)
        if self.order.revision in known:
            return Problem(f"{self.order.name} has no files", "correct the source")
        return no_revision(self.order, known)

    def address(self, file: File, listing: Listing) -> str:
        """The address that the library downloads from."""
        return f"{self.api}/repo?Revision={quote_plus(self.order.revision)}&FilePath={quote_plus(file.path)}"

    def fetch(self, listing: Listing) -> None:
        """By the library."""
        os.environ["MODELSCOPE_ENDPOINT"] = self.endpoint
        os.environ["MODELSCOPE_DOMAIN"] = urlsplit(self.endpoint).netloc
        # Its lock files would lie in the user's home; who runs this has the folder alone.
        os.environ.update(MODELSCOPE_DOWNLOAD_FILE_LOCK="false", MODELSCOPE_HUB_FILE_LOCK="false")
        download = library("modelscope.hub.snapshot_download", "modelscope").snapshot_download
        arguments: dict[str, Any] = {}
        if token := self.credential:
            if "token" in inspect.signature(download).parameters:
                arguments["token"] = token
            else:
                self._log_in(token)
        try:
            download(
                self.order.repository,
                revision=self.order.revision,
                local_dir=self.order.folder,
                allow_patterns=[glob.escape(file.path) for file in listing.files],
                **arguments,
            )
        except Exception as error:
            raise explained(error, self.order, self.access) from None

    def _log_in(self, token: str) -> None:
        """Versions before 1.38 know no token but that of a login, which they keep in the user's home."""
        api = library("modelscope.hub.api", "modelscope")
        cookies = library("requests.cookies", "modelscope").RequestsCookieJar()
        cookies.set("m_session_id", token, domain=urlsplit(self.endpoint).hostname, path="/")
        api.ModelScopeConfig.get_cookies = staticmethod(lambda: cookies)


def _modelscope_file(entry: Mapping[str, Any]) -> File:
    # A file's own revision is the commit that changed it last.
    sha256, revision = (str(entry.get(key) or "") for key in ("Sha256", "Revision"))
    return File(safe(str(entry["Path"])), int(entry.get("Size") or 0), sha256.lower(), revision)
