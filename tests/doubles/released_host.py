"""One service's folder on this machine, with releases that run a light double of the engine."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.cutover.outcome import Outcome
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.run import Order, bring, cut_over
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.targets import resolve
from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    GATE_FILE,
    HANDOVER_FILE,
    LAUNCH_FILE,
    Artifact,
    Release,
    StagedRelease,
    files_of,
)
from ansible_collections.deployer.sglang.plugins.module_utils.status import service_status
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState
from ansible_collections.deployer.sglang.plugins.plugin_utils.rendering import render_launch

REPOSITORY = Path(__file__).parents[2]
DOUBLE = REPOSITORY / "tests" / "doubles" / "openai_server.py"
LAUNCH = (REPOSITORY / "roles" / "release" / "templates" / "launch.sh.j2").read_text()
SERVICE = "code2sql"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ReleasedHost:
    """One service's folder on this machine, with releases that run the double."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.port = free_port()
        self.textfile_directory = ""
        self.folder = Store(self.root).service(SERVICE)
        for path in (self.folder.releases, self.folder.state, str(root / "model")):
            os.makedirs(path)

    def stage(self, release_id: str, fault: str = "none", **changes: object) -> str:
        argv = (sys.executable, str(DOUBLE), "--port", str(self.port), "--served-model-name", SERVICE)
        values: dict[str, object] = {
            "service": SERVICE,
            "engine": "sglang",
            "argv": (*argv, "--fault", fault),
            "variables": {"PATH": os.defpath},
            "environment": Artifact("x", "e" * 64, sys.prefix),
            "model": Artifact("m", "d" * 64, f"{self.root}/model"),
            "served_name": SERVICE,
            "gpus": (),
            "host": "127.0.0.1",
            "port": self.port,
            "supervisor": "process",
            "user": getpass.getuser(),
            "root": self.root,
            "working_directory": self.folder.state,
            "stop_timeout": 2,
            **changes,
        }
        release = Release(**values)  # type: ignore[arg-type]
        staged = StagedRelease(release_id, release, render_launch(LAUNCH, release, release_id), "")
        target = self.folder.release(release_id)
        os.makedirs(target)
        for name, text in files_of(staged).items():
            write_file(os.path.join(target, name), text, 0o755 if name == LAUNCH_FILE else 0o644)
        gate = {"ready_timeout": 20, "min_healthy_time": 0, "request_timeout": 5}
        write_file(os.path.join(target, GATE_FILE), pretty_json(gate))
        return release_id

    def gate(self, release_id: str, **values: object) -> None:
        path = os.path.join(self.folder.release(release_id), GATE_FILE)
        write_file(path, pretty_json({"ready_timeout": 20, "min_healthy_time": 0, "request_timeout": 5, **values}))

    def handover(self, release_id: str, **values: object) -> None:
        write_file(os.path.join(self.folder.release(release_id), HANDOVER_FILE), pretty_json(values))

    def order(self, target: str, judged: bool = False) -> Order:
        monitors = self.textfile_directory
        return Order(self.root, SERVICE, target, "test", "process", textfile_directory=monitors, judged=judged)

    def cut_over(self, target: str, judged: bool = False) -> Outcome:
        """The cut-over in this process."""
        return cut_over(self.order(target, judged))

    def bring(self, target: str) -> Outcome:
        """The cut-over in a child of this process, which is its guardian."""
        return bring(self.order(target))

    def resolve(self, target: str) -> str:
        return resolve(self.folder, target)

    @property
    def run(self) -> RunState:
        return supervisor_for("process", SERVICE, self.folder).state()

    @property
    def state(self) -> str:
        return str(service_status(self.root, SERVICE, self.port)["state"])

    def journal(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in Path(self.folder.journal).read_text().splitlines()]
