"""Building SGLang's CPU environment from its bundle, against `python -m venv` and pip with the same wheels.

Both are byte-compiled at the end. The build also hashes the bundle and every installed file, and imports the engine;
pip does neither. They take turns, and the quickest of each counts: other work on the machine only ever adds time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.environments.build import Order, build_environment
from ansible_collections.deployer.sglang.plugins.module_utils.environments.bytecode import ARCHIVE
from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import REQUIREMENTS_LOCK, lock_digest
from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file
from demo.inputs import default_cache, make_inputs
from tests.doubles.bundle_files import write_wheel

ROUNDS = 2
LIMIT = 0.5  # of pip's time
DISK_LIMIT = 0.1  # of an environment's size, for a second one that shares all but one package


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def build(bundle: Path, prefix: Path, caches: Path) -> None:
    """Build an environment as a host does."""
    build_environment(Order(bundle, prefix, lock_digest(bundle), "bench", Caches(caches)))


def build_alone(bundle: Path, folder: Path) -> None:
    """Build an environment as the first one of a host."""
    shutil.rmtree(folder, ignore_errors=True)
    build(bundle, folder / "first", folder / "cache")


def pip_install(bundle: Path, prefix: Path) -> None:
    """What one would do by hand with the same wheels."""
    shutil.rmtree(prefix, ignore_errors=True)
    subprocess.run([getattr(sys, "_base_executable", sys.executable), "-m", "venv", prefix], check=True)
    command = [prefix / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    options = ["--no-index", "--no-deps", "--require-hashes", "--find-links", bundle / "wheels"]
    subprocess.run([*command, *options, "--requirement", bundle / REQUIREMENTS_LOCK], check=True)


def disk(*folders: Path) -> int:
    """Bytes that folders take together, a file with several names once."""
    done = subprocess.run(["du", "-sc", "-B1", *folders], capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1].split()[0])


def other_bundle(bundle: Path, folder: Path, without: str = "", extra: str = "") -> Path:
    """The same bundle without one of its files, or with one wheel more."""
    shutil.copytree(bundle, folder, copy_function=os.link)
    if without:
        (folder / without).unlink()
    if extra:
        wheel = write_wheel(folder / "wheels", extra, "1.0", {f"{extra}.py": "VALUE = 1\n"})
        lock = folder / REQUIREMENTS_LOCK
        text = lock.read_text() + f"{extra}==1.0 --hash=sha256:{hash_file(wheel)}\n"
        lock.unlink()  # another name of the bundle's own
        lock.write_text(text)
    return folder


def main() -> int:
    bundle = make_inputs(default_cache(), print).environments["sglang-cpu"] / "bundle"
    with tempfile.TemporaryDirectory(prefix="bench-", dir=default_cache()) as temporary:
        folder = Path(temporary)
        bare = other_bundle(bundle, folder / "bare", without=ARCHIVE)
        ways: dict[str, Callable[[], object]] = {
            "venv and pip": lambda: pip_install(bundle, folder / "pip"),
            "from the bundle": lambda: build_alone(bundle, folder / "root"),
            "from the bundle, compiling on the host": lambda: build_alone(bare, folder / "bare-root"),
        }
        rounds = [{name: seconds(way) for name, way in ways.items()} for _ in range(ROUNDS)]
        times = {name: min(one[name] for one in rounds) for name in ways}
        second = other_bundle(bundle, folder / "second-bundle", extra="benchextra")
        alone = disk(folder / "root")
        root = folder / "root"
        times["a second one with one more package"] = seconds(lambda: build(second, root / "second", root / "cache"))
        more = (disk(root) - alone) / disk(root / "second")
        print(f"{'environment':42} {'seconds':>8} {'of pip':>7}")
        for name, took in times.items():
            print(f"{name:42} {took:8.1f} {took / times['venv and pip']:7.2f}")
        print(f"the second one takes {more:.1%} of its size in new disk, limit {DISK_LIMIT:.0%}")
        ratio = times["from the bundle"] / times["venv and pip"]
        print(f"bench-environment: ratio {ratio:.2f}, limit {LIMIT:.2f}")
        return int(ratio > LIMIT or more > DISK_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
