"""Reading the GPUs of a host, with a fake nvidia-smi on PATH that says, or does, what the test wants."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import gpu_probe
from ansible_collections.deployer.sglang.plugins.module_utils.gpu_probe import read_gpus
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import GpuFacts
from ansible_collections.deployer.sglang.plugins.module_utils.nvidia_smi import MIB, parse_query
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until
from tests.doubles import nvidia_smi
from tests.doubles.nvidia_smi import Process

Install = Callable[..., None]
COMPLAINT = 'Field "compute_cap" is not a valid field to query.\n'


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts an nvidia-smi on PATH, and no other: `query`, `capabilities` and `topology` are what it prints, or shell
    commands after a `!`."""
    monkeypatch.setattr(gpu_probe, "FOLDERS", (str(tmp_path / "none"),))
    monkeypatch.setattr(gpu_probe, "KERNEL_LOG", str(tmp_path / "kmsg"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def write(query: str, capabilities: str = "!exit 2", topology: str = "!exit 1", kernel_log: str = "") -> None:
        actions = {}
        for name, text in (("query", query), ("capabilities", capabilities), ("topology", topology)):
            (tmp_path / name).write_text(text)
            actions[name] = text[1:] if text.startswith("!") else f"/bin/cat {tmp_path / name}"
        script = tmp_path / "bin" / "nvidia-smi"
        script.write_text(
            f"""#!/bin/sh
echo "$LC_ALL $*" >> {tmp_path}/calls
case "$*" in
  "-q -x") {actions["query"]} ;;
  "--query-gpu=uuid,compute_cap --format=csv,noheader") {actions["capabilities"]} ;;
  "topo -m") {actions["topology"]} ;;
  *) exit 2 ;;
esac
"""
        )
        script.chmod(0o755)
        if kernel_log:
            (tmp_path / "kmsg").write_text(kernel_log)

    yield write


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that a GPU could be used by."""
    program = "import time; time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", program, "--api-key", "secret"])
    yield child
    child.kill()
    child.wait()


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_a_whole_host(install: Install, sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    document = nvidia_smi.host(processes=[Process(2, sleeper.pid, 1000), Process(3, 2**22 + 1, 20, "gone --token x")])
    pci = parse_query(document).gpus[5].pci
    log = (
        f"3,1,2,-;NVRM: Xid (PCI:{pci[:-2]}): 79, pid=1, GPU has fallen off the bus.\n SUBSYSTEM=pci\n"
        "3,2,3,-;NVRM: Xid (PCI:0000:ff:00): 48, An uncorrectable double bit error.\n"
    )
    install(document, nvidia_smi.capabilities(8, "9.9"), nvidia_smi.topology(8), log)
    facts = read_gpus()
    assert (facts.driver, facts.cuda, len(facts.gpus), facts.links["0-7"]) == ("580.159.04", "13.0", 8, "NV18")
    assert {gpu.compute_capability for gpu in facts.gpus} == {"9.9"}, "what the driver says outranks the product's name"
    assert [bool(gpu.trouble) for gpu in facts.gpus] == [index == 5 for index in range(8)]
    assert facts.gpus[5].trouble == ("Xid 79: GPU has fallen off the bus",)
    assert facts.problem == "GPU 0000:ff:00.0 is not listed; Xid 48: An uncorrectable double bit error"
    (process,) = facts.gpus[2].processes
    assert (process.pid, process.memory, process.service) == (sleeper.pid, 1000 * MIB, "")
    assert process.user and process.command == sys.executable
    (process,) = facts.gpus[3].processes
    assert (process.user, process.command) == ("", "gone"), "it ended meanwhile"
    assert [call.split(" ", 1)[0] for call in calls(tmp_path)] == ["C"] * 3


def test_one_gpu_has_no_links_and_an_old_driver_no_capability_query(install: Install, tmp_path: Path) -> None:
    install(nvidia_smi.host("NVIDIA A100-SXM4-40GB", 1, 40536, "470.57.02", "v11"), f"!printf '{COMPLAINT}'; exit 2")
    facts = read_gpus()
    assert (facts.gpus[0].compute_capability, facts.links, facts.problem) == ("8.0", {}, "")
    assert not any("topo" in call for call in calls(tmp_path))


def test_no_nvidia_smi(install: Install) -> None:
    assert read_gpus() == GpuFacts("", "", (), {}, "nvidia-smi is not installed")


def test_it_is_found_in_a_folder_that_path_does_not_name(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(nvidia_smi.host(count=1))
    monkeypatch.setattr(gpu_probe, "FOLDERS", (str(tmp_path / "none"), str(tmp_path / "bin")))
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert len(read_gpus().gpus) == 1


NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n\n"
)


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (
            f'!/usr/bin/printf "%s" "{NO_DRIVER}"; exit 9',
            "nvidia-smi failed: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver",
        ),
        (
            "!echo 'Failed to initialize NVML: Driver/library version mismatch'; echo 'NVML 535.183'; exit 18",
            "nvidia-smi failed: Failed to initialize NVML: Driver/library version mismatch",
        ),
        ("!echo 'No devices were found'; exit 6", "no devices were found"),
        ("!echo 'cannot open shared object file' >&2; exit 127", "nvidia-smi failed: cannot open shared object file"),
        ("!exit 3", "nvidia-smi failed: exit status 3"),
        ("!exit 0", "nvidia-smi failed: it printed nothing"),
        ("!kill -SEGV $$", "nvidia-smi failed: ended by signal 11"),
        (
            "!echo '<?xml version=\"1.0\" ?>'; echo '<nvidia_smi_log><gpu>'; exit 15",
            "nvidia-smi failed: exit status 15",
        ),
        ("<nvidia_smi_log><gpu></nvidia_smi_log>", "nvidia-smi -q -x: it is no XML: mismatched tag: line 1, column 23"),
    ],
)
def test_why_there_are_no_gpus(install: Install, action: str, problem: str) -> None:
    install(action)
    assert read_gpus() == GpuFacts("", "", (), {}, problem)


def test_one_that_cannot_be_run(install: Install, tmp_path: Path) -> None:
    install("")
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/nowhere/at/all\n")
    assert read_gpus().problem == "nvidia-smi failed: No such file or directory"


def test_a_hang_is_given_up_with_all_its_processes(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_probe, "TIMEOUT", 3.0)
    install(f"!/bin/sleep 600 & echo $! > {tmp_path}/pid; wait")
    assert read_gpus().problem == "nvidia-smi failed: no answer within 3 s"
    assert wait_until(lambda: not alive(int((tmp_path / "pid").read_text())), 30)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
            return stream.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_one_that_outlives_its_kill_is_left_behind(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits inside the driver does, here by never being sent the signal."""
    monkeypatch.setattr(gpu_probe, "TIMEOUT", 0.2)
    monkeypatch.setattr(gpu_probe, "KILLED_WITHIN", 0.2)
    spared: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, _: spared.append(group))
    install("!exec /bin/sleep 600")
    try:
        assert read_gpus().problem == "nvidia-smi failed: no answer within 0.2 s"
    finally:
        monkeypatch.undo()
        for group in spared:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def test_what_else_hangs_or_fails_is_said_beside_the_gpus(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_probe, "TIMEOUT", 3.0)
    install(nvidia_smi.host(), "!exec /bin/sleep 600", "!exit 255")
    facts = read_gpus()
    assert {gpu.compute_capability for gpu in facts.gpus} == {"9.0"}
    assert (facts.links, facts.problem) == (
        {},
        "nvidia-smi --query-gpu: no answer within 3 s; nvidia-smi topo -m: exit status 255",
    )


def test_lines_around_the_document_go_to_the_gpu_that_they_name(install: Install, tmp_path: Path) -> None:
    document = nvidia_smi.host(count=2)
    second = parse_query(document).gpus[1].pci
    lost = (
        "Unable to determine the device handle for GPU0000:DD:00.0: GPU is lost.  Reboot the system to recover this GPU"
    )
    warning = f"WARNING: infoROM is corrupted at gpu {second.upper()}"
    (tmp_path / "document").write_text(document)
    install(f"!echo '{lost}'; /bin/cat {tmp_path}/document; echo '{warning}'; exit 14", topology=nvidia_smi.topology(2))
    facts = read_gpus()
    assert [gpu.trouble for gpu in facts.gpus] == [(), (warning,)]
    assert facts.problem == lost


def test_the_kernel_log_is_read_to_its_end_without_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pipe ends as /dev/kmsg does: with EAGAIN while it is open for writing."""
    log = tmp_path / "kmsg"
    os.mkfifo(log)
    monkeypatch.setattr(gpu_probe, "KERNEL_LOG", str(log))
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(log, os.O_WRONLY)
    try:
        os.write(writer, b"6,1,2,-;usb\n3,2,3,-;NVRM: Xid (PCI:0000:01:00): 79, x\n")
        assert list(gpu_probe._kernel_log()) == ["3,2,3,-;NVRM: Xid (PCI:0000:01:00): 79, x"]
    finally:
        os.close(writer)
        os.close(reader)
    monkeypatch.setattr(gpu_probe, "KERNEL_LOG", str(tmp_path))
    assert list(gpu_probe._kernel_log()) == []
    monkeypatch.setattr(gpu_probe, "KERNEL_LOG", str(tmp_path / "absent"))
    assert list(gpu_probe._kernel_log()) == []
