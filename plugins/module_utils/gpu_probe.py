"""Reads the GPUs of this host: nvidia-smi, the kernel log, and /proc for whose processes compute on them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu, GpuFacts, GpuProcess
from ansible_collections.deployer.sglang.plugins.module_utils.nvidia_smi import (
    normal_pci,
    parse_capabilities,
    parse_query,
    parse_topology,
    parse_xids,
)
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import short_command

# Where nvidia-smi lies when PATH does not name its folder: a container runtime's mount, the GPU operator's driver, WSL.
FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/local/nvidia/bin", "/run/nvidia/driver/usr/bin", "/usr/lib/wsl/lib")
TIMEOUT = 60.0  # seconds; without persistence mode each call initialises every GPU, for some seconds each
KILLED_WITHIN = 5.0  # seconds; one that waits inside the driver does not even end on SIGKILL
KERNEL_LOG = "/dev/kmsg"
RECORD_SIZE = 16 * 1024  # bytes; a record has 8 KiB at most, and a smaller buffer is refused (kernel, printk.c)
MOST_RECORDS = 1_000_000  # so that a log which grows while it is read comes to an end


@dataclass(frozen=True)
class _Answer:
    """What a call of nvidia-smi gave; `failure` is '' after exit status 0. `hung` when it had to be given up."""

    output: str
    errors: str = ""
    failure: str = ""
    hung: bool = False


def read_gpus() -> GpuFacts:
    """The GPUs of this host. What could not be read is said in `problem`; nothing is raised.

    Xids are read from the kernel log by root alone, as far back as it reaches; they stay until the next boot, also
    after the GPU was reset.
    """
    program = _program()
    if program is None:
        return _nothing("nvidia-smi is not installed")
    answer = _run(program, "-q", "-x")
    document, remarks = _taken_apart(answer.output)
    if not document:
        return _nothing(_why_nothing(answer))
    try:
        facts = parse_query(document)
    except DeployError as error:
        return _nothing(error.problem)
    if not facts.gpus:
        return facts
    if answer.failure and not remarks:
        remarks = [f"nvidia-smi -q -x: {answer.failure}"]
    capabilities, capabilities_problem = _capabilities(program)
    links, links_problem = _links(program) if len(facts.gpus) > 1 else ({}, "")
    xids = parse_xids(_kernel_log())
    gpus = tuple(
        dataclasses.replace(
            gpu,
            compute_capability=capabilities.get(gpu.uuid, gpu.compute_capability),
            trouble=(*gpu.trouble, *(line for line in remarks if _names(line, gpu)), *xids.pop(gpu.pci, ())),
            processes=tuple(_described(process) for process in gpu.processes),
        )
        for gpu in facts.gpus
    )
    problems = (
        facts.problem,
        *(line for line in remarks if not any(_names(line, gpu) for gpu in gpus)),
        # A GPU that fell off the bus is not listed any more.
        *(f"GPU {address} is not listed; {'; '.join(lines)}" for address, lines in xids.items()),
        capabilities_problem,
        links_problem,
    )
    return dataclasses.replace(facts, gpus=gpus, links=links, problem="; ".join(filter(None, problems)))


def read_usage() -> tuple[Gpu, ...]:
    """The GPUs of this host with their memory and processes alone: one call of nvidia-smi; () where it says nothing."""
    program = _program()
    document, _ = _taken_apart(_run(program, "-q", "-x").output) if program else ("", [])
    try:
        gpus = parse_query(document).gpus if document else ()
    except DeployError:
        return ()
    return tuple(dataclasses.replace(gpu, processes=tuple(map(_described, gpu.processes))) for gpu in gpus)


def _program() -> str | None:
    return shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=os.pathsep.join(FOLDERS))


def _nothing(problem: str) -> GpuFacts:
    return GpuFacts("", "", (), {}, problem)


def _run(program: str, *arguments: str) -> _Answer:
    try:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LANG": "C", "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        return _Answer("", failure=error.strerror or str(error))
    try:
        output, errors = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        _give_up(process)
        return _Answer("", failure=f"no answer within {TIMEOUT:g} s", hung=True)
    status = process.returncode
    failure = "" if status == 0 else f"exit status {status}" if status > 0 else f"ended by signal {-status}"
    return _Answer(output.decode(errors="replace"), errors.decode(errors="replace"), failure)


def _give_up(process: subprocess.Popen[bytes]) -> None:
    # Not subprocess.run: after its timeout it waits for as long as the killed process takes to end.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=KILLED_WITHIN)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _taken_apart(output: str) -> tuple[str, list[str]]:
    """The document, '' when there is none, and the lines around it: warnings, GPUs that cannot be reached."""
    match = re.search(r"(<\?xml.*|<nvidia_smi_log.*)</nvidia_smi_log>", output, re.DOTALL)
    if match is None:
        return "", _lines(output)
    return match.group(), _lines(f"{output[: match.start()]}\n{output[match.end() :]}")


def _lines(text: str) -> list[str]:
    return [line.strip()[:200] for line in text.splitlines() if line.strip()]


def _why_nothing(answer: _Answer) -> str:
    said = next(iter(_lines(answer.output) + _lines(answer.errors)), "")
    if said.lower().startswith("no devices were found"):
        return "no devices were found"
    reason = re.split(r"\.(?:\s|$)", said, maxsplit=1)[0]  # "… NVIDIA driver. Make sure that …"
    if "<" in reason:  # the beginning of a document without its end
        reason = ""
    return f"nvidia-smi failed: {reason or answer.failure or 'it printed nothing'}"


def _names(remark: str, gpu: Gpu) -> bool:
    """Whether a line of nvidia-smi is about this GPU: "WARNING: infoROM is corrupted at gpu 0000:3B:00.0"."""
    addresses = re.findall(r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]", remark)
    return gpu.pci in map(normal_pci, addresses)


def _capabilities(program: str) -> tuple[dict[str, str], str]:
    answer = _run(program, "--query-gpu=uuid,compute_cap", "--format=csv,noheader")
    if answer.hung:
        return {}, f"nvidia-smi --query-gpu: {answer.failure}"
    try:
        return parse_capabilities(answer.output), ""
    except DeployError:  # drivers before 510 do not know the query: what the product's name told has to do
        return {}, ""


def _links(program: str) -> tuple[dict[str, str], str]:
    answer = _run(program, "topo", "-m")
    if answer.failure:
        return {}, f"nvidia-smi topo -m: {answer.failure}"
    try:
        return parse_topology(answer.output), ""
    except DeployError as error:
        return {}, error.problem


def _kernel_log() -> Iterable[str]:
    """The driver's error reports in the kernel log, oldest first; none where it may not be read."""
    found: list[str] = []
    try:
        descriptor = os.open(KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return found
    try:
        for _ in range(MOST_RECORDS):
            try:
                record = os.read(descriptor, RECORD_SIZE)
            except BrokenPipeError:  # the record was overwritten before it was read: go on with the next
                continue
            if not record:
                break
            found += [line for line in record.decode(errors="replace").splitlines() if "NVRM: Xid" in line]
    except OSError:  # BlockingIOError: that was the last record
        pass
    finally:
        os.close(descriptor)
    return found


def _described(process: GpuProcess) -> GpuProcess:
    """The process with the user and command that /proc has; nvidia-smi's name for it where /proc says nothing."""
    try:
        owner = os.stat(f"/proc/{process.pid}").st_uid
        with open(f"/proc/{process.pid}/cmdline", "rb") as stream:
            words = stream.read().decode(errors="replace").replace("\0", " ").split()
    except OSError:  # it ended meanwhile, or /proc hides other users' processes
        return process
    try:
        user = pwd.getpwuid(owner).pw_name
    except KeyError:
        user = str(owner)
    return dataclasses.replace(process, user=user, command=short_command(words) or process.command)
