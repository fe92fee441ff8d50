"""One lab host with a committed release of the double, brought back to exactly that before every test."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.host import LabHost
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until
from tests.lab.fleet import FOLDER, PORT, ROOT, SERVICE, DoubleFleet, Finished, Running

HOST = "gpu1"
UNIT = f"inference-{SERVICE}.service"
SAVED = "/srv/saved"
SETTLED = 60  # seconds for a host to finish or restore by itself
NEW = {"environment_variables": {"RELEASE": "new"}}  # a sound release that is not the committed one

SAVE = f"""
mkdir -p {SAVED}
cp -a {FOLDER} {SAVED}/service
cp -a /etc/systemd/system/{UNIT} {SAVED}/unit
"""
# After a boot: what an earlier test left in /run, in memory or mounted is gone already.
RESET = f"""
systemctl stop {UNIT}
rm -rf {FOLDER} {ROOT}/rollout.json /etc/systemd/system/{UNIT}.d /etc/python3*/sitecustomize.py.d
cp -a {SAVED}/service {FOLDER}
cp -a {SAVED}/unit /etc/systemd/system/{UNIT}
systemctl daemon-reload
systemctl reset-failed {UNIT} 2>/dev/null || true
systemctl enable --quiet --now {UNIT}
"""
# Who listens on the port: its pid, the release it says it is, and its command.
LISTENER = """
import glob, json, os

inodes = set()
for table in ("/proc/net/tcp", "/proc/net/tcp6"):
    for words in map(str.split, open(table).readlines()[1:]):
        if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == PORT:
            inodes.add("socket:[%s]" % words[9])
found = []
for name in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(name) in inodes:
            folder = name.rpartition("/fd/")[0]
            environ = open(folder + "/environ", "rb").read().split(b"\\0")
            release = [v.partition(b"=")[2].decode() for v in environ if v.startswith(b"INFERENCE_RELEASE=")]
            found.append([int(folder.rpartition("/")[2]), (release or [""])[0]])
    except OSError:
        continue
print(json.dumps(sorted(map(list, {tuple(one) for one in found}))))
"""
CONTENT = f"""
cd {ROOT}
find artifacts services/{SERVICE}/releases -type f -print0 | sort -z | xargs -0 sha256sum
"""


@dataclass(frozen=True)
class Kept:
    """What must not get lost: sha256 by path of releases and weights, and the journal's lines."""

    files: Mapping[str, str]
    journal: tuple[str, ...]


@dataclass
class OneHost:
    """The host, and what was committed there.

    Args:
        fleet: with this host alone.
        committed: the release that serves at the start of every test.
        before: what was there then.
    """

    fleet: DoubleFleet
    committed: str = ""
    before: Kept = field(default_factory=lambda: Kept({}, ()))

    @property
    def host(self) -> LabHost:
        """The lab host, switched on or not."""
        return self.fleet.lab.hosts[HOST]

    def furnish(self) -> None:
        """Deploy the release that everything starts from; once for all tests."""
        self.fleet.install(HOST)
        self.fleet.describe()
        done = self.fleet.deployer("rollout", HOST)
        assert done.status == 0, done.output
        self.committed = self.fleet.link(HOST, "current")
        self.root(SAVE)

    def reset(self) -> None:
        """Back to the start: the power cut ends whatever an earlier test has left running."""
        self.host.link(up=True)
        self.host.power_cut()
        self.host.boot()
        self.root(RESET)
        assert wait_until(lambda: self.answers_as() == self.committed, SETTLED)
        self.before = self.kept()
        self.fleet.describe()

    def root(self, command: str) -> str:
        """What a command prints, as root."""
        return self.fleet.root(HOST, command)

    def rollout(self, *words: str, **changes: Any) -> Finished:
        """Describe a release and roll it out."""
        self.fleet.describe(**changes)
        return self.fleet.deployer("rollout", HOST, *words)

    def begin(self, *words: str, environment: Mapping[str, str] | None = None, **changes: Any) -> Running:
        """The same, going on."""
        self.fleet.describe(**changes)
        return self.fleet.begin("rollout", HOST, *words, **(environment or {}))

    def listeners(self) -> list[tuple[int, str]]:
        """Who listens on the service's port: pid and release."""
        code = LISTENER.replace("PORT", str(PORT))
        return [(pid, release) for pid, release in json.loads(self.root(f"python3 -c {shlex.quote(code)}"))]

    def answers_as(self) -> str:
        """The release whose process answers a chat on the service's port; '' when none does."""
        try:
            if self.fleet.models(HOST) != [SERVICE] or self.fleet.chat(HOST) < 1:
                return ""
        except httpx.HTTPError:
            return ""
        return next((release for _, release in self.listeners()), "")

    def settle(self) -> None:
        """Wait until nobody works on the service any more: no lock is held, now and a moment later."""
        free = f"flock --nonblock {FOLDER}/lock true && echo free || true"
        deadline, seen = time.monotonic() + SETTLED, 0
        while seen < 3:
            assert time.monotonic() < deadline, "somebody still works on the service"
            seen = seen + 1 if self.root(free) == "free" else 0
            time.sleep(0.3)

    def serves(self, release: str, seconds: float = SETTLED) -> bool:
        """True once a release answers."""
        return wait_until(lambda: self.answers_as() == release, seconds)

    def serves_one_of(self, releases: set[str]) -> bool:
        """True once one of them answers."""
        return wait_until(lambda: self.answers_as() in releases, SETTLED)

    def put_on_small_disk(self) -> None:
        """Give the service's folder a file system of its own, with little room."""
        self.root(
            f"mount -t tmpfs -o size=2m,nr_inodes=300 tmpfs /mnt && cp -a {FOLDER}/. /mnt"
            f" && mount --bind /mnt {FOLDER} && umount -l /mnt"
        )

    def fill_disk(self) -> None:
        """Take all of its room, down to the last inode."""
        self.root(
            f"mkdir {FOLDER}/full; dd if=/dev/zero of={FOLDER}/full/bytes bs=4k 2>/dev/null;"
            f" i=0; while true > {FOLDER}/full/$i; do i=$((i+1)); done 2>/dev/null; true"
        )

    def free_disk(self) -> None:
        """Give the room back."""
        self.root(f"rm -r {FOLDER}/full")

    def status(self) -> dict[str, Any]:
        """What `status` says of the service."""
        service: dict[str, Any] = self.fleet.deployer("status", HOST).outcome[HOST]["services"][0]
        return service

    def kept(self) -> Kept:
        """What is there now that must not get lost."""
        lines = self.root(CONTENT).splitlines()
        journal = self.root(f"cat {FOLDER}/journal.jsonl").splitlines()
        return Kept({line[66:]: line[:64] for line in lines}, tuple(journal))

    def assert_nothing_lost(self, damaged: Callable[[str], bool] = lambda path: False) -> None:
        """All releases, weights and lines of the journal that were there are there, but for what the test damaged."""
        now = self.kept()
        for path, digest in self.before.files.items():
            assert damaged(path) or now.files.get(path) == digest, path
        assert now.journal[: len(self.before.journal)] == self.before.journal
        for line in now.journal:
            assert isinstance(json.loads(line), dict), line

    def assert_true(self, done: Finished, new: str) -> None:
        """The exit code and the report say what is so: which release answers, or that none is known to."""
        serving = self.answers_as()
        state = str(self.status()["state"])
        assert (state == "serving") == bool(serving) or state in ("interrupted", "changing"), (state, serving)
        if done.status == 0:
            assert serving == new == self.fleet.link(HOST, "current")
        elif done.status == 1 and "was not seen" in done.output:  # the host came to its end by itself
            assert serving in (self.committed, new) and serving == self.fleet.link(HOST, "current")
        elif done.status in (1, 2):
            assert serving == self.committed == self.fleet.link(HOST, "current")
        else:
            assert done.status == 3
            assert "NOT RESTORED" in done.output or "NOT KNOWN" in done.output

    def staged(self) -> str:
        """The release that was staged last."""
        newest = self.root(f"ls -td {FOLDER}/releases/*/").splitlines()
        return next(one for path in newest if (one := path.rstrip("/").rpartition("/")[2]) != self.committed)
