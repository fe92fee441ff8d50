"""Asks hubs and web servers for a model's files: starts `fetch_child` with a Python that has the hub's library.

On the controller that is the Python that runs Ansible, on a host that of an engine's environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import SECRETS, clean
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import (
    FACTS,
    FETCH,
    RESOLVE,
    Listing,
    Order,
    Progress,
    parsed,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.web import AUTHORITIES
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_program import program
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import Source

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "no_proxy", "NO_PROXY")
OF_THE_USER = ("HOME", "TMPDIR", "XDG_CACHE_HOME")
VARIABLES = (*OF_THE_USER, "PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", *AUTHORITIES, *PROXIES, *SECRETS)
PREFIXES = ("HF_", "MODELSCOPE_")
NOT_PASSED = ("HF_HUB_ENABLE_HF_TRANSFER",)  # superseded by hf_xet, and an error where hf_transfer is not installed
SETTINGS = {
    "LC_ALL": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
LAST_WORDS = 2000  # characters of stderr that are shown
FOR_EVERY_USER = "/tmp"  # another user may not reach what TMPDIR says


@dataclass(frozen=True)
class Runner:
    """The Python that fetches, and what it is given.

    Args:
        python: path of the interpreter.
        libraries: folders to look for the hub's library in, after the interpreter's own.
        variables: environment variables in addition to this process's, such as credentials from the vault; they win.
        become: arguments of Popen that make it another user's process (`user`, `group`, `extra_groups`).
    """

    python: str
    libraries: Sequence[str] = ()
    variables: Mapping[str, str] | None = None
    become: Mapping[str, Any] | None = None


OnProgress = Callable[[Progress], None]


def resolve(runner: Runner, source: Source) -> Listing:
    """What the source's revision is now: its commit and files, with their sha256 where the source says it.

    Raises:
        DeployError: there is no such source, it cannot be reached, or access is refused.
    """
    return _run(runner, source, Order(source.kind, RESOLVE))


def write_skeleton(
    runner: Runner, source: Source, folder: str, commit: str = "", allow: Iterable[str] | None = None
) -> Listing:
    """Write what `read_model` needs into `folder`: small files whole, of safetensors the headers, of others the size.

    Args:
        folder: exists and is empty.
        commit: the state that was resolved before; '' takes what is there now.
        allow: paths of the files that are wanted; None for all.
    Raises:
        DeployError: as `resolve`; or the source is not in that state any more.
    """
    return _run(runner, source, Order(source.kind, FACTS, folder=folder, commit=commit, allow=_listed(allow)))


def fetch(
    runner: Runner,
    source: Source,
    folder: str,
    commit: str = "",
    allow: Iterable[str] | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> Listing:
    """Bring files of exactly that state into `folder`, verified. What an earlier call left there is gone on with.

    Args:
        folder: is made when it is not there. It is this state's alone: a file of the right size whose hash the source
            does not say is taken for the wanted one. No one else writes to it meanwhile.
        commit, allow: as `write_skeleton`.
        on_progress: called about once a second; what it raises ends the fetch.
    Returns:
        The files, all with their sha256.
    Raises:
        DeployError: as `write_skeleton`; or the disk is full.
    """
    order = Order(source.kind, FETCH, folder=folder, commit=commit, allow=_listed(allow))
    return _run(runner, source, order, on_progress)


def _listed(names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _run(runner: Runner, source: Source, order: Order, on_progress: OnProgress = lambda progress: None) -> Listing:
    where = {name: getattr(source, name) for name in ("repository", "revision", "url")}
    order = dataclasses.replace(order, **where, libraries=list(runner.libraries))
    return Listing.from_dict(run_child(runner, order, on_progress))


def run_child(runner: Runner, order: Order, on_progress: OnProgress) -> Mapping[str, Any]:
    """Run the program with an order, in a process group that ends when this call does.

    Returns:
        Its result.
    Raises:
        DeployError: what it says is wrong; or it could not be started, or died.
    """
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile())
        path = stack.enter_context(_program_file(runner))
        try:
            process = subprocess.Popen(
                [runner.python, "-I", path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=environment(runner.variables or {}, os.path.dirname(path) if runner.become else ""),
                cwd="/",
                start_new_session=True,
                **(runner.become or {}),
            )
        except OSError as error:
            raise DeployError(
                f"{runner.python} cannot be started: {error.strerror}",
                "name the Python of an environment that is there",
            ) from None
        stack.callback(_end, process)
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it died: what it said is read below
            process.stdin.write(json.dumps(dataclasses.asdict(order)).encode())
            process.stdin.close()
        for line in process.stdout:
            answer = parsed(line)
            if not isinstance(answer, dict):
                continue
            if "progress" in answer:
                on_progress(Progress(**answer["progress"]))
            elif "error" in answer:
                raise DeployError(answer["error"]["problem"], answer["error"]["fix"])
            elif "result" in answer:
                result: Mapping[str, Any] = answer["result"]
                return result
        raise _died(runner, process.wait(), said)


@contextlib.contextmanager
def _program_file(runner: Runner) -> Iterator[str]:
    """The path of the program, in a temporary folder of the user who runs it."""
    folder = tempfile.mkdtemp(prefix="sglang-deployer-", dir=FOR_EVERY_USER if runner.become else None)
    try:
        path = os.path.join(folder, "fetch_child.zip")
        with open(path, "wb") as stream:
            stream.write(program())
        if runner.become:
            os.chmod(path, 0o644)
            shutil.chown(folder, runner.become["user"])
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(variables: Mapping[str, str], home: str = "") -> dict[str, str]:
    """What the program gets of this process's environment: where to go out, whom to trust, settings and credentials.

    Args:
        variables: what it gets besides; they win.
        home: folder of another user, who has no use for what this user's is; '' where it is this one.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if (name in VARIABLES or name.startswith(PREFIXES)) and name not in NOT_PASSED
    }
    of_the_user = dict.fromkeys(OF_THE_USER, home) if home else {}
    return {"PATH": os.defpath, **passed, **SETTINGS, **of_the_user, **variables}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group, and wait."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    process.wait()


def _died(runner: Runner, code: int, said: IO[bytes]) -> DeployError:
    said.seek(0)
    text = said.read().decode("utf-8", "replace")[-LAST_WORDS:]
    given = environment(runner.variables or {})
    lines = [clean(line, given) for line in text.splitlines()]
    reason = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
    fix = "run it again; the lines below"
    return DeployError(f"what fetches the weights, {runner.python}, {reason}", fix, "\n".join(filter(None, lines)))
