"""Runs the collection's playbooks through ansible-runner: a thin façade that hands every event on."""

from __future__ import annotations

import contextlib
import getpass
import locale
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

Event = Mapping[str, Any]
KILLED = 254  # as ansible-runner has it
OLDEST_ANSIBLE = (2, 18)  # as pyproject.toml has it
INSTALL = "install it beside this package: pip install 'ansible-core>=2.18' 'ansible-runner>=2.4'"

# For a working directory without an ansible.cfg: what the collection's own says (see there).
DEFAULTS = {
    "ANSIBLE_FORCE_VALID_GROUP_NAMES": "ignore",
    "ANSIBLE_FORKS": "50",
    "ANSIBLE_INTERPRETER_PYTHON": "auto_silent",
    "ANSIBLE_PIPELINING": "True",
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=300s"
    " -o ServerAliveInterval=15 -o ServerAliveCountMax=4",
}


@dataclass(frozen=True)
class Invocation:
    """What a playbook is run with.

    Args:
        inventory: paths as `-i` takes them; empty for the one that ansible.cfg names.
        limit: a host pattern, or ''.
        check: change nothing, say what would change.
        extra_vars: variables of the highest precedence.
        arguments: further words for ansible-playbook, such as vault options.
    """

    inventory: Sequence[str] = ()
    limit: str = ""
    check: bool = False
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    arguments: Sequence[str] = ()


@dataclass(frozen=True)
class Run:
    """How a playbook ended: ansible-playbook's exit status, and what it printed."""

    status: int
    output: str


def run_playbook(
    name: str,
    invocation: Invocation,
    on_event: Callable[[Event], None],
    cancelled: Callable[[], bool] | None = None,
) -> Run:
    """Run `deployer.sglang.NAME` and call `on_event` for everything that happens.

    Nothing of the run stays on the controller: ansible-runner's own artifacts hold every variable, secrets included.
    A limit of which a part matches no host is a mistake, and ends the run before its first task: Ansible would only
    warn, and go on with other hosts than were meant.

    Args:
        name: of the playbook.
        invocation: what it is run with.
        on_event: called with each event of ansible-runner.
        cancelled: asked once a second, whether ansible-playbook is to be killed. It runs in a session of its own, so
            that Ctrl-C does not reach it. Without this, it is killed at Ctrl-C.

    Raises:
        DeployError: the controller lacks Ansible, or room for what a run needs.
        KeyboardInterrupt: Ctrl-C, without `cancelled`.
    """
    from deployer.runs.problems import of_os_error, unmatched
    from deployer.runs.yaml_faults import with_origin

    runner_of = _ansible_runner()
    mistaken = threading.Event()

    def handle(event: Event) -> bool:
        if event.get("event") == "verbose" and unmatched(str(event.get("stdout") or "")):
            mistaken.set()  # Ansible says so before its first task
            _end_children()
        if not mistaken.is_set():
            _taken(on_event, event)
        return False  # the event is not written to disk

    try:
        with tempfile.TemporaryDirectory(prefix="sglang-deployer-") as folder, _interruptible(cancelled) as ended:
            runner = runner_of(
                private_data_dir=folder,
                project_dir=os.getcwd(),
                playbook=f"deployer.sglang.{name}",
                inventory=[_absolute(path) for path in invocation.inventory] or None,
                limit=invocation.limit or None,
                extravars=dict(invocation.extra_vars),
                cmdline=" ".join(_words(invocation)) or None,
                envvars={**_ansible_home(folder), **environment(os.environ, Path.cwd())},
                event_handler=handle,
                quiet=True,
                settings={"pexpect_timeout": 1},  # seconds between two looks at `ended`
                cancel_callback=_gently(lambda: mistaken.is_set() or ended()),
            )
            output = with_origin(runner.stdout.read() if runner.stdout else "", invocation.inventory)
            interrupted = cancelled is None and ended()
    except OSError as error:
        problem = of_os_error(error, "Ansible cannot be run")
        if problem is None:
            raise
        raise problem.error() from error
    if interrupted:
        raise KeyboardInterrupt
    return Run(KILLED if runner.rc is None else int(runner.rc), output)


def _taken(on_event: Callable[[Event], None], event: Event) -> None:
    """Hand an event on; an answer that is of no use, from one host, is that host's failure and not the end of all."""
    try:
        on_event(event)
    except Exception as error:
        data = event.get("event_data")
        if not isinstance(data, dict) or not data.get("host") or not str(event.get("event")).startswith("runner_"):
            raise
        why = f"what it answered makes no sense ({type(error).__name__}: {error}). Fix: see what is installed there"
        on_event({**event, "event": "runner_on_failed", "event_data": {**data, "res": {"msg": why}}})


def initiator() -> str:
    """Who runs this, and where: `user@host`, for the journals of the hosts."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in /etc/passwd
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _ansible_runner() -> Callable[..., Any]:
    """ansible-runner's `run`, imported only now: it is slow, and --help does not need it.

    Raises:
        DeployError: it is not installed, or ansible-core is not or is too old.
    """
    import importlib.metadata

    try:
        import ansible_runner
    except ImportError as error:
        raise DeployError(f"ansible-runner cannot be imported: {error}", INSTALL) from error
    if shutil.which("ansible-playbook", path=_search_path(os.environ)) is None:
        raise DeployError("there is no ansible-playbook on the controller", INSTALL)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # it may be another installation's
        version = importlib.metadata.version("ansible-core")
        if tuple(int(number) for number in version.split(".")[:2]) < OLDEST_ANSIBLE:
            raise DeployError(f"ansible-core {version} is too old", INSTALL)
    run: Callable[..., Any] = ansible_runner.run
    return run


def end_signals() -> list[signal.Signals]:
    """The signals that ask a program to end: Ctrl-C, SIGTERM, and that the terminal is gone, unless that is ignored."""
    hung_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hung_up]


@contextmanager
def _interruptible(cancelled: Callable[[], bool] | None) -> Iterator[Callable[[], bool]]:
    """Whether the run is to end: as `cancelled` says, or else after Ctrl-C, which is noted meanwhile."""
    if cancelled is not None or threading.current_thread() is not threading.main_thread():
        yield cancelled or (lambda: False)
        return
    noted = threading.Event()
    before = {number: signal.signal(number, lambda *_: noted.set()) for number in end_signals()}
    try:
        yield noted.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _gently(cancelled: Callable[[], bool]) -> Callable[[], bool]:
    """`cancelled`, which says so a second after it had ansible-playbook end its workers.

    They have sessions of their own: killed with ansible-runner's SIGKILL, it would leave them waiting for their hosts.
    """
    told = False

    def check() -> bool:
        nonlocal told
        if not cancelled():
            return False
        if told:
            return True
        told = True
        _end_children()
        return False

    return check


def _end_children() -> None:
    """Have ansible-playbook end its workers, and itself; a program that uses the API may have other children."""
    for pid in _children():
        with contextlib.suppress(OSError):
            if b"ansible-playbook" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)


def _children() -> list[int]:
    """Ids of this process's children; none where the kernel does not say."""
    found: list[int] = []
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in listing.read_text().split()]
    return found


def environment(current: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Environment variables for ansible-playbook: defaults where neither the user nor an ansible.cfg says otherwise.

    ansible-runner turns host key checking off; it is turned on again, and an unknown key is refused instead of asked
    about, as nobody could answer.
    """
    configured = "ANSIBLE_CONFIG" in current or (folder / "ansible.cfg").exists()
    wanted = {} if configured else dict(DEFAULTS)
    chosen = {name: current.get(name, value) for name, value in wanted.items()}
    if "utf" not in locale.getpreferredencoding(False).lower():
        chosen["LC_ALL"] = "C.UTF-8"  # Ansible refuses to run in any other encoding
    chosen["ANSIBLE_HOST_KEY_CHECKING"] = "True"
    chosen["ANSIBLE_NOCOLOR"] = "True"  # what it prints is shown by us, and only where it failed
    # One that cannot be read would otherwise only be warned of, and its hosts be left out.
    unparsed = "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"
    chosen[unparsed] = current.get(unparsed, "True")
    extra = (current.get("ANSIBLE_SSH_EXTRA_ARGS", ""), "-o StrictHostKeyChecking=yes")
    chosen["ANSIBLE_SSH_EXTRA_ARGS"] = " ".join(filter(None, extra))
    return {**chosen, "PATH": _search_path(current)}


def _search_path(current: Mapping[str, str]) -> str:
    """Where ansible-playbook is: beside this package, also without an activated environment, or else where it was."""
    return os.pathsep.join((str(Path(sys.executable).parent), current.get("PATH", os.defpath)))


def _ansible_home(folder: str) -> dict[str, str]:
    """A folder of the run for Ansible's own files where it cannot write into the home."""
    if "ANSIBLE_HOME" in os.environ:
        return {}
    own = Path.home() / ".ansible"
    with contextlib.suppress(OSError):
        own.mkdir(mode=0o700, exist_ok=True)
        if os.access(own, os.W_OK | os.X_OK):
            return {}
    return {"ANSIBLE_HOME": str(Path(folder) / "ansible")}


def _words(invocation: Invocation) -> list[str]:
    return [*(["--check", "--diff"] if invocation.check else []), *(shlex.quote(word) for word in invocation.arguments)]


def _absolute(source: str) -> str:
    """An inventory path from anywhere; a host list (`a,b,`) as it is."""
    return source if "," in source else str(Path(source).expanduser().resolve())
