"""Staging: environments and weights."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.deployer.sglang.plugins.module_utils import incoming
from ansible_collections.deployer.sglang.plugins.module_utils.environments import build, proof
from ansible_collections.deployer.sglang.plugins.module_utils.environments.build import Order, build_environment
from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import lock_digest
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.relay import puller, receiver, server, wire
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Peer
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.credentials import new_certificate
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.opening import controller_address
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.progress import PREFIX, fleet_line
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import check_bundle
from deployer.runs.results import RELAY
from tests.documented.printed.terminal import ended, in_place_of, watched
from tests.doubles.bundle_files import write_bundle
from tests.doubles.relay_fleet import MB, Fleet, noise

if TYPE_CHECKING:
    from tests.documented.printed.scenarios import Stage

_ENVIRONMENTS = "Ensure the environments are there"
_OPEN = "Open the transfer"
_RECEIVE = "Wait until every byte is verified"


def no_bundle(stage: Stage) -> str:
    lock = _lock(stage)
    (lock / "bundle").rename(stage.folder / "elsewhere")
    return _refused_bundle(stage, lock)


def bundle_incomplete(stage: Stage) -> str:
    lock = _lock(stage)
    next((lock / "bundle" / "wheels").glob("alpha-*")).unlink()
    return _refused_bundle(stage, lock)


def bundle_of_another_lock(stage: Stage) -> str:
    lock = _lock(stage)
    file = lock / "requirements.lock"
    file.write_text(file.read_text().replace("alpha==1.0", "alpha==1.1"))
    return _refused_bundle(stage, lock)


def bundle_damaged(stage: Stage) -> str:
    bundle = _lock(stage) / "bundle"
    wheel = next((bundle / "wheels").glob("alpha-*"))
    content = bytearray(wheel.read_bytes())
    content[-1] ^= 1
    wheel.write_bytes(content)
    return _unbuilt(stage, bundle)


def disk_full_while_building(stage: Stage) -> str:
    bundle = write_bundle(stage.folder / "bundle", {"full-disk": "1.0"}, stage.monkeypatch)
    stage.monkeypatch.setattr(build.shutil, "disk_usage", lambda path: type("", (), {"free": 200 * 10**6}))
    return _unbuilt(stage, bundle)


def library_missing(stage: Stage) -> str:
    said = "echo 'ImportError: libnuma.so.1: cannot open shared object file: No such file or directory' >&2; exit 1"
    return _unproved(stage, said)


def environment_sees_no_gpu(stage: Stage) -> str:
    device = stage.folder / "nvidiactl"
    device.touch()
    stage.monkeypatch.setattr(proof, "NVIDIA_DEVICE", str(device))
    return _unproved(stage, 'if [ "$3" = sglang.check_env ]; then echo "CUDA available: False"; fi')


def behind_nat(stage: Stage) -> str:
    try:
        controller_address({"gpu1": {"relay": {"controller": "192.0.2.7"}}})
    except DeployError as error:
        return watched(ended("gpu1", _OPEN, {"msg": str(error)}, role="model"))
    raise AssertionError("192.0.2.7 is an address of this machine")


def port_blocked(stage: Stage) -> str:
    fleet = _fleet(stage)
    try:
        limits = {"start": 0.2, "patience": 0.2}
        host = fleet.host("gpu1", [fleet.model(size=MB)], [Peer("the controller", "127.0.0.1", 1)], limits=limits)
        error = host.until("failed")["error"]
    finally:
        fleet.close()
    text = str(DeployError(error["problem"], error["fix"])).replace("127.0.0.1 port 1", "10.0.0.2 port 18516")
    return watched(ended("gpu1", _RECEIVE, {"msg": text}, role="model", action=RELAY))


def relay_port_held(stage: Stage) -> str:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        stage.monkeypatch.setattr(server, "describe_listeners", lambda port: "pid 4711 of alice: python3 serve.py")
        try:
            server._listen("127.0.0.1", (port,))
        except DeployError as error:
            text = str(error).replace("127.0.0.1", "10.0.0.5").replace(str(port), "18515")
            return watched(ended("gpu1", "Ensure the hosts receive, and serve what they have", {"msg": text}))
    raise AssertionError("two listen on one port")


def weights_slow(stage: Stage) -> str:
    total = 29_540_000_000
    there = {"gpu1": (0.52, 92_000_000), "gpu2": (0.51, 91_000_000), "gpu3": (0.04, 1_100_000)}
    reports = [
        {"host": host, "state": "receiving", "total": total, "resumed": 0, "received": int(part * total), "rate": rate}
        for host, (part, rate) in there.items()
    ]
    return watched({"event": "verbose", "stdout": PREFIX + fleet_line(reports)})


def changed_meanwhile(stage: Stage) -> str:
    return _transfer(stage, lambda file: file.write_bytes(noise(MB, 2)))


def digest_mismatch(stage: Stage) -> str:
    return _transfer(stage, _damage)


def resumed(stage: Stage) -> str:
    result = {"changed": True, "landed": 164.0, "started": 100.0, "received": 1_310_000_000, "resumed": 1_400_000_000}
    return watched(ended("gpu1", _RECEIVE, {**result, "lost": {}}, "ok", RELAY, "model"))


def no_room_for_weights(stage: Stage) -> str:
    stage.monkeypatch.setattr(incoming.shutil, "disk_usage", lambda path: type("", (), {"free": 12 * 10**9}))
    try:
        incoming.check_room("/", 29_540_000_000, "the models' transfer")
    except DeployError as error:
        text = str(error).replace("and / has", "and /opt has")
        return watched(
            ended("gpu1", "Ensure the models' weights are there, or find out what is missing", {"msg": text})
        )
    raise AssertionError("there was room")


def _lock(stage: Stage) -> Path:
    lock = stage.folder / "sglang"
    write_bundle(lock / "bundle", {"alpha": "1.0", "beta": "2.0"}, stage.monkeypatch)
    for file in (lock / "bundle").glob("*.lock"):
        (lock / file.name).write_bytes(file.read_bytes())
    return lock


def _refused_bundle(stage: Stage, lock: Path) -> str:
    try:
        check_bundle(str(lock))
    except DeployError as error:
        text = in_place_of(str(error), stage.folder, "/home/me/fleet/environments")
        return watched(ended("gpu1", _ENVIRONMENTS, {"msg": text}, role="environment"))
    raise AssertionError("the bundle is whole")


def _unbuilt(stage: Stage, bundle: Path) -> str:
    prefix = stage.folder / "artifacts" / "environments" / "sglang-2ce462dd25f9"
    try:
        build_environment(Order(bundle, prefix, lock_digest(bundle), "sglang", Caches(stage.folder / "cache")))
    except DeployError as error:
        text = in_place_of(str(error), stage.folder, "/opt/inference")
        return watched(ended("gpu1", _ENVIRONMENTS, {"msg": text}, role="environment"))
    raise AssertionError("it is built")


def _unproved(stage: Stage, script: str) -> str:
    python = stage.folder / "sglang" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    for folder in list(python.parents)[:5]:
        folder.chmod(0o755)  # as nobody, who proves it
    try:
        proof.prove(python.parents[1], {"sglang": "0.5.23"})
    except DeployError as error:
        text = in_place_of(str(error), stage.folder, "/opt/inference/artifacts/environments")
        return watched(ended("gpu1", _ENVIRONMENTS, {"msg": text}, role="environment"))
    raise AssertionError("it is proved")


def _damage(file: Path) -> None:
    """Change a byte as a bad disk does: nothing but the content changes."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _transfer(stage: Stage, change: Callable[[Path], object]) -> str:
    """A host that receives a model whose file changes after it was hashed."""
    fleet = _fleet(stage)
    try:
        model = fleet.model(size=MB)
        seed = fleet.seed(model)
        change(model.folder / "model.safetensors")
        error = fleet.host("gpu1", [model], [seed], limits={"start": 0.3}).until("failed")["error"]
    finally:
        fleet.close()
    text = str(DeployError(error["problem"], error["fix"])).replace(str(model.folder), "/data/saves/qwen3-14b-ft")
    return watched(ended("gpu1", _RECEIVE, {"msg": text}, role="model", action=RELAY))


def _fleet(stage: Stage) -> Fleet:
    for module, name, value in ((wire, "HEARTBEAT", 0.1), (receiver, "REPORT_EVERY", 0.05), (puller, "RETRY", 0.05)):
        stage.monkeypatch.setattr(module, name, value)
    return Fleet(stage.folder, new_certificate())
