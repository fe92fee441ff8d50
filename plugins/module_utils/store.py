"""Where things lie on a host, below the deployment's root folder."""

from __future__ import annotations

import os
from dataclasses import dataclass

UNKNOWN_DIGEST = "…"  # stands in paths for the digest of weights that nobody has hashed yet
SHORT = 12  # hex digits of a digest that stand in a folder's name


@dataclass(frozen=True)
class Store:
    """The folders below `root` (see docs/architecture.md, "On a host")."""

    root: str

    def environment(self, name: str, digest: str) -> str:
        """The conda prefix of the environment `name` at `digest`."""
        return os.path.join(self.root, "artifacts", "environments", f"{name}-{digest[:SHORT]}")

    def model(self, name: str, digest: str) -> str:
        """The folder of the model `name` at `digest`: its weights and manifest.json."""
        return os.path.join(self.models, f"{name}-{digest[:SHORT]}")

    @property
    def models(self) -> str:
        """The folder of all models."""
        return os.path.join(self.root, "artifacts", "models")

    @property
    def relay(self) -> str:
        """What the relay that receives weights says of itself."""
        return os.path.join(self.root, "incoming", "relay.json")

    @property
    def relay_asked(self) -> str:
        """Written to whenever somebody asks how far the relay is."""
        return f"{self.relay}.asked"

    def seed(self, run: str) -> str:
        """Which process serves folders of this host as a seed for a run."""
        return os.path.join(self.root, "incoming", f"seed-{run}.json")

    @property
    def relay_lock(self) -> str:
        """Held by the one relay that receives on this host."""
        return os.path.join(self.root, "incoming", ".relay.lock")

    @property
    def metrics_lock(self) -> str:
        """Held by the one cut-over that tells monitors what happened on this host."""
        return os.path.join(self.root, ".metrics.lock")

    def incoming(self, digest: str) -> str:
        """Where the files of an artifact arrive; kept when a transfer breaks, so that the next one resumes."""
        return os.path.join(self.root, "incoming", digest)

    def cache(self, environment_digest: str) -> str:
        """Compile caches that outlive a release: Triton, FlashInfer, DeepGEMM, torch."""
        return os.path.join(self.shared_caches, environment_digest[:SHORT])

    @property
    def shared_caches(self) -> str:
        """What builds of environments share, and compile caches beside it."""
        return os.path.join(self.root, "cache")

    def service(self, name: str) -> ServiceFolder:
        """The folder of one service."""
        return ServiceFolder(os.path.join(self.root, "services", name))


@dataclass(frozen=True)
class ServiceFolder:
    """One service's folder: its releases, which of them serves, and what happened to it."""

    path: str

    @property
    def releases(self) -> str:
        """Every release that was staged and not yet pruned."""
        return os.path.join(self.path, "releases")

    def release(self, release_id: str) -> str:
        """The folder of one release."""
        return os.path.join(self.releases, release_id)

    @property
    def journal(self) -> str:
        """Who, when, from, to, outcome, reasons: one JSON object a line."""
        return os.path.join(self.path, "journal.jsonl")

    @property
    def transaction(self) -> str:
        """The state of the cut-over that is under way; absent when none is."""
        return os.path.join(self.path, "transaction.json")

    @property
    def loading(self) -> str:
        """How far the release that is at its gate has loaded; absent when none is."""
        return os.path.join(self.path, "loading.json")

    @property
    def lock(self) -> str:
        """Held by the one cut-over that is under way."""
        return os.path.join(self.path, "lock")

    @property
    def state(self) -> str:
        """The service's home and working directory, writable by its user."""
        return os.path.join(self.path, "state")

    @property
    def logs(self) -> str:
        """Log files, where no journald takes the log."""
        return os.path.join(self.path, "logs")

    def link(self, role: str) -> str:
        """The symbolic link for `role`: current, previous or predecessor."""
        return os.path.join(self.path, role)

    def release_of(self, role: str) -> str | None:
        """The id of the release that `role` names, or None."""
        try:
            return os.path.basename(os.readlink(self.link(role)))
        except OSError:  # not there, or no link: somebody copied a folder to its place
            return None
