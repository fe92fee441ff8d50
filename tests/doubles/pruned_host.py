"""A deployment's root folder as staging and cut-overs leave it; ages are set, never waited for."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.pruning.prune import prune
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.rules import Rules

DAY = 86400.0
NOW = 2_000_000_000.0  # seconds since the epoch
OLD = NOW - 10 * DAY
HOLD_LOCK = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"


def digest(name: str) -> str:
    """A digest of 64 hex digits that starts with those of `name`, which are few."""
    return f"{int.from_bytes(name.encode(), 'big'):x}".rjust(12, "0")[-12:].ljust(64, "f")


def date(path: Path, when: float) -> None:
    """Set the time of one path, a link's own included."""
    os.utime(path, (when, when), follow_symlinks=False)


class PrunedHost:
    """Puts things below `root`; every method gives the path of what it made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def environment(self, name: str, age: float = 10 * DAY, size: int = 10_000) -> Path:
        folder = self.root / "artifacts" / "environments" / f"{name}-{digest(name)[:12]}"
        return self._artifact(folder, "environment.json", "lib.so", age, size)

    def model(self, name: str, age: float = 10 * DAY, size: int = 10_000) -> Path:
        folder = self.root / "artifacts" / "models" / f"{name}-{digest(name)[:12]}"
        return self._artifact(folder, "manifest.json", "model.safetensors", age, size)

    def build(self, name: str, age: float = 10 * DAY) -> Path:
        folder = self.root / "artifacts" / "environments" / f"{name}-{digest(name)[:12]}"
        folder.mkdir(parents=True)
        (folder / ".building").touch()
        date(folder, NOW - age)
        return folder

    def incoming(self, name: str, age: float = 10 * DAY) -> Path:
        folder = self.root / "incoming" / digest(name)
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(b"x" * 5000)
        date(folder / "part", NOW - age)
        date(folder, NOW - age)
        return folder

    def cache(self, name: str, age: float = 10 * DAY) -> Path:
        folder = self.root / "cache" / digest(name)[:12]
        (folder / "triton").mkdir(parents=True)
        date(folder, NOW - age)
        return folder

    def release(self, service: str, release: str, environment: str, model: str, age: float = 10 * DAY) -> Path:
        """A release of artifacts of these names, which need not be there."""
        folder = self.root / "services" / service / "releases" / release
        folder.mkdir(parents=True)
        prefix = self.root / "artifacts" / "environments" / f"{environment}-{digest(environment)[:12]}"
        weights = self.root / "artifacts" / "models" / f"{model}-{digest(model)[:12]}"
        cache = self.root / "cache" / digest(environment)[:12]
        value = {
            "id": release,
            "environment": {"name": environment, "digest": digest(environment), "path": str(prefix)},
            "model": {"name": model, "digest": digest(model), "path": str(weights)},
            "argv": [f"{prefix}/bin/python", "-m", "sglang.launch_server", "--model-path", str(weights)],
            "variables": {"TRITON_CACHE_DIR": f"{cache}/triton"},
        }
        for name, text in (("release.json", json.dumps(value, indent=2)), ("gate.json", "{}"), ("launch.sh", "")):
            (folder / name).write_text(text)
            date(folder / name, NOW - age)
        return folder

    def link(self, service: str, role: str, release: str, age: float = 5 * DAY) -> Path:
        link = self.root / "services" / service / role
        link.symlink_to(f"releases/{release}")
        date(link, NOW - age)
        return link

    def wheel(self, name: str, age: float = 10 * DAY, linked_into: Path | None = None) -> Path:
        """An unpacked wheel in uv's cache, with the two pointers to it."""
        cache = self.root / "cache" / "wheels"
        folder = cache / "archive-v0" / f"{name}-id"
        (folder / name).mkdir(parents=True)
        (folder / name / "big.so").write_bytes(b"w" * 20_000)
        (folder / "RECORD").write_text("rewritten by uv in every environment, so never linked")
        pointers = cache / "wheels-v8" / name
        pointers.mkdir(parents=True)
        (pointers / "1.0").symlink_to(f"../../archive-v0/{name}-id")
        (pointers / "1.0.rev").write_bytes(b"\x92\xce" + f"{name}-id".encode() + b"\x90")
        if linked_into is not None:
            os.link(folder / name / "big.so", linked_into / f"{name}.so")
        date(folder, NOW - age)
        return folder

    def _artifact(self, folder: Path, record: str, content: str, age: float, size: int) -> Path:
        folder.mkdir(parents=True)
        (folder / content).write_bytes(b"x" * size)
        (folder / record).write_text("{}")
        date(folder / record, NOW - age)
        return folder


def deployed(root: Path) -> PrunedHost:
    """One service, on its second release; what the first used is needed no more."""
    host = PrunedHost(root)
    for name in ("old", "new"):
        host.environment(name)
        host.model(f"m-{name}")
        host.cache(name)
        host.release("code2sql", name, name, f"m-{name}", age=9 * DAY if name == "old" else 6 * DAY)
    host.link("code2sql", "current", "new")
    return host


def run(host: PrunedHost, check: bool = False, keep: int = 0, **values: Any) -> dict[str, Any]:
    """Prune it, at NOW."""
    return prune(str(host.root), Rules(keep=keep, min_age=DAY), check=check, now=NOW, **values)


def names(rows: list[dict[str, Any]]) -> list[str]:
    """The folder names of rows."""
    return [Path(row["path"]).name for row in rows]


def tree(folder: Path) -> set[str]:
    """Every path, but for the locks, which are made to be held."""
    return {str(path) for path in folder.rglob("*") if path.name not in ("lock", ".prune.lock")}


@contextlib.contextmanager
def lock_held(path: Path) -> Iterator[None]:
    """Another process holds the lock at `path`."""
    words = [sys.executable, "-c", HOLD_LOCK, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.communicate("\n")
