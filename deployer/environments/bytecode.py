"""Compile a bundle's wheels once, on the controller, so that not every host has to."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.environments.bytecode import (
    ARCHIVE,
    pack_bytecode,
    packed_for,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import (
    interpreter_version,
    site_packages,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.installers import (
    Backend,
    Tools,
    compile_bytecode,
    install_conda_packages,
    install_wheels,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import Lock
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.wording import counted

Say = Callable[[str], None]


def compile_bundle(bundle: Path, lock: Lock, say: Say = lambda line: None) -> None:
    """Leave the byte code of a bundle's wheels in it, compiled by the bundle's own Python.

    Without it a host compiles by itself; so where this controller cannot run the bundle's Python, or has no room,
    nothing is left and that is said.

    Args:
        bundle: a complete bundle, locked; its wheels are unpacked in it for the time being.
        lock: the bundle's.
        say: called with one line per step.
    """
    if not lock.wheels or packed_for(bundle / ARCHIVE) == lock.digest:
        return
    (bundle / ARCHIVE).unlink(missing_ok=True)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        say("byte code is left for the hosts to compile: this controller is no Linux on x86_64")
        return
    bundle = bundle.absolute()  # the installers run in a folder of their own
    say(f"compiling {counted(len(lock.wheels), 'wheel')}")
    work, prefix = bundle / ".compile", bundle / ".compile" / "prefix"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed; the bundle is locked
    try:
        prefix.mkdir(parents=True)
        tools, caches = Tools(work, (), lambda line: None), Caches(work, lasting=False)
        install_conda_packages(tools, Backend(), bundle, lock, prefix, caches.conda("rattler"))
        python = interpreter_version(prefix)
        install_wheels(tools, bundle, prefix, caches)
        compile_bytecode(tools, prefix, python)
        pack_bytecode(site_packages(prefix, python), work / ARCHIVE, lock.digest)
        (work / ARCHIVE).replace(bundle / ARCHIVE)
    except (DeployError, OSError, subprocess.SubprocessError, shutil.Error) as error:
        say(f"byte code is left for the hosts to compile: {str(error).splitlines()[0]}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
