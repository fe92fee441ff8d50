"""Prove that a built environment works on its host: imports, and SGLang's own check on a host with GPUs.

Where root builds, the proof runs as nobody: nothing of an environment needs root to be imported.
Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines import ENGINES, engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.engines.base import Engine
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

PROOF_SECONDS = 900  # the first import of torch from a cold disk takes minutes
NVIDIA_DEVICE = "/dev/nvidiactl"
NO_CUDA = "CUDA available: False"


def prove(prefix: str | Path, packages: Mapping[str, str]) -> dict[str, str]:
    """Import what the engines in the environment are started from; on a host with NVIDIA GPUs, run their own check.

    Args:
        prefix: of the environment.
        packages: versions by PEP 503 name, as `inspect_prefix` gives them.

    Returns:
        What each engine's own check printed, by engine; empty on a host without GPUs.

    Raises:
        DeployError: an import fails, or the check does not see the GPUs; with what Python said.
    """
    said = {}
    for name in ENGINES:
        engine = engine_named(name)
        if engine.package not in packages:
            continue
        _import(prefix, engine)
        if engine.check_module and os.path.exists(NVIDIA_DEVICE):
            said[name] = _check(prefix, engine)
    return said


def _import(prefix: str | Path, engine: Engine) -> None:
    code = "\n".join(f"import {module}" for module in engine.imports)
    done = _run(prefix, ["-c", code])
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise DeployError(
            f"{engine.package} cannot be imported from {prefix}: {lines[-1]}",
            fix="install a missing library on the host; add a missing module to environment.yml, and lock again",
            detail="\n".join(line for line in lines[-12:-1] if not line.startswith(("Traceback", '  File "<string>"'))),
        )


def _check(prefix: str | Path, engine: Engine) -> str:
    done = _run(prefix, ["-m", engine.check_module])
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise DeployError(
            f"{engine.check_module} fails in {prefix}: {said[-1]}",
            fix="see the driver with nvidia-smi on this host",
            detail="\n".join(said[-12:-1]),
        )
    if NO_CUDA in lines:
        raise DeployError(
            f"{prefix} does not see the GPUs of this host: {engine.check_module} says {NO_CUDA!r}",
            fix="update the driver to one for the CUDA of this environment, or lock an environment for the driver",
            detail="\n".join(lines[:12]),
        )
    return "\n".join(lines)


def _run(prefix: str | Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    become = _as_nobody()
    try:
        return _run_as(become, prefix, words)
    except PermissionError:
        # A root folder that others may not pass, whose services run as the one who builds. Where another user is to run
        # them, staging the release says so.
        return _run_as({}, prefix, words)


def _run_as(become: Mapping[str, Any], prefix: str | Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    python = os.path.join(prefix, "bin", "python")
    with tempfile.TemporaryDirectory(prefix="sglang-deployer-") as home:
        if become:
            os.chown(home, become["user"], become["group"])
        environment = {
            "PATH": f"{prefix}/bin:/usr/bin:/bin",
            "HOME": home,
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HF_HUB_OFFLINE": "1",
        }
        try:
            return subprocess.run(
                [python, "-I", *words],
                env=environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PROOF_SECONDS,
                check=False,
                **become,
            )
        except subprocess.TimeoutExpired as error:
            raise DeployError(
                f"{python} {words[0]}: no end after {PROOF_SECONDS} s", fix="see the host's disk, and run again"
            ) from error


def _as_nobody() -> dict[str, Any]:
    """Popen's arguments to run without rights; nothing where that is so already."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
