"""The Hugging Face hub."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.attempts import CONNECTIONS, patiently
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.libraries import explained, library
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.paths import safe
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import Access
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import File, Listing
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.source import Source
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.web import TIMEOUT_S


class HuggingFace(Source):
    """A model on the Hugging Face hub, or on a server that speaks its API (HF_ENDPOINT)."""

    access = Access("HF_TOKEN", "a gated model's terms have to be accepted on its page by the token's account")
    leftovers = (".cache/huggingface",)

    def headers(self) -> dict[str, str]:
        """The token, where there is one."""
        return {"Authorization": f"Bearer {self.credential}"} if self.credential else {}

    def listing(self) -> Listing:
        """By the library, which knows the hub's errors."""
        hub = library("huggingface_hub")
        revision = self.order.commit or self.order.revision

        def once() -> Any:
            try:
                api = hub.HfApi(token=self.credential or None)
                return api.model_info(self.order.repository, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
            except Exception as error:
                raise explained(error, self.order, self.access) from None

        info = patiently(once)
        files = []
        for sibling in info.siblings or ():
            lfs = sibling.lfs
            sha256 = getattr(lfs, "sha256", None) or (lfs.get("sha256") if isinstance(lfs, Mapping) else None) or ""
            # Of a file in LFS, it is the pointer's.
            blob = "" if lfs else str(getattr(sibling, "blob_id", None) or "")
            files.append(File(safe(sibling.rfilename), int(sibling.size or 0), sha256, blob=blob))
        return Listing(str(info.sha), tuple(sorted(files, key=lambda file: file.path)))

    def address(self, file: File, listing: Listing) -> str:
        """The hub's own address, which redirects to its storage."""
        hub = library("huggingface_hub")
        return str(hub.hf_hub_url(self.order.repository, file.path, revision=listing.commit))

    def fetch(self, listing: Listing) -> None:
        """By the library where it can use Xet, which is faster; else by ranges.

        The library goes on with a file only within one run: what it leaves of others from 2.0 on is of no use.
        """
        hub = library("huggingface_hub")
        if not uses_xet():
            super().fetch(listing)
            return
        for path in glob.glob(
            os.path.join(glob.escape(self.order.folder), self.leftovers[0], "**", "*"), recursive=True
        ):
            if re.search(r"\.[0-9a-f]{8}\.incomplete$", path):
                os.unlink(path)
        try:
            hub.snapshot_download(
                self.order.repository,
                revision=listing.commit,
                local_dir=self.order.folder,
                allow_patterns=[glob.escape(file.path) for file in listing.files],
                token=self.credential or None,
                max_workers=CONNECTIONS,
            )
        except Exception as error:
            raise explained(error, self.order, self.access) from None


def uses_xet() -> bool:
    """Whether huggingface_hub would fetch by hf_xet."""
    off = os.environ.get("HF_HUB_DISABLE_XET", "").strip().upper() in ("1", "ON", "YES", "TRUE")
    return not off and importlib.util.find_spec("hf_xet") is not None
