"""Starting the program that fetches: what it is given, what becomes of it, what its end means."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.weights import fetch_child, fetch_program, fetching
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import Progress
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_program import program
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetching import Runner
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import Source, parse_source
from demo.make_tiny_model import make_tiny_model
from tests.doubles.hub_server import HubServer

TOKEN = "Bearer ThisIsNoRealToken"
PATIENCE_S = 30
MIB = 2**20
REPOSITORY = Path(__file__).resolve().parents[5]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer()
    server.folder = {"/m/model.safetensors": bytes(4 * MIB)}
    monkeypatch.setenv("DEPLOYER_HTTP_AUTHORIZATION", TOKEN)
    yield server
    server.close()


@pytest.fixture
def source(hub: HubServer) -> Source:
    return parse_source(f"{hub.url}/folder/m/")


def children(parent: int) -> list[int]:
    """Process ids of a process's children."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(pid)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def awaited(condition: Callable[[], bool]) -> bool:
    """Whether something comes to pass."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_the_token_is_in_no_argument_and_the_program_in_a_file_that_is_removed(
    hub: HubServer, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNRELATED_SECRET", "x")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    seen: list[tuple[list[str], str]] = []

    def look(progress: Progress) -> None:
        for pid in children(os.getpid()):
            with contextlib.suppress(OSError):  # it has ended
                command, variables = (Path(f"/proc/{pid}/{name}").read_text() for name in ("cmdline", "environ"))
                if "fetch_child.zip" in command and variables:
                    seen.append((command.rstrip("\0").split("\0"), variables))
                    assert Path(seen[-1][0][-1]).parent.stat().st_mode & 0o077 == 0

    hub.breaks = {"model.safetensors": [MIB]}  # so that it still runs when it is looked at
    fetching.fetch(Runner(sys.executable), source, str(tmp_path / "m"), on_progress=look)
    assert seen
    command, variables = seen[0]
    assert command[:2] == [sys.executable, "-I"]
    assert len(command) == 3
    assert os.listdir(tmp_path) == ["m"]
    assert f"DEPLOYER_HTTP_AUTHORIZATION={TOKEN}" in variables
    assert "UNRELATED_SECRET" not in variables
    assert all(request.authorization == TOKEN for request in hub.requests)


def test_a_caller_that_leaves_takes_the_program_along(hub: HubServer, source: Source, tmp_path: Path) -> None:
    hub.stalls = {"model.safetensors": MIB}
    before = set(children(os.getpid()))  # other tests' lab hosts may be among them
    pids: list[int] = []

    def leave(progress: Progress) -> None:
        pids.extend(set(children(os.getpid())) - before)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetching.fetch(Runner(sys.executable), source, str(tmp_path), on_progress=leave)
    assert pids
    assert all(gone(pid) for pid in pids)


def test_a_caller_that_is_killed_takes_the_program_along(hub: HubServer, source: Source, tmp_path: Path) -> None:
    hub.stalls = {"model.safetensors": MIB}
    code = (
        "import sys; from ansible_collections.deployer.sglang.plugins.module_utils.weights import fetching, sources;"
        "fetching.fetch(fetching.Runner(sys.executable), sources.parse_source(sys.argv[1]), sys.argv[2])"
    )
    command = [sys.executable, "-c", code, source.text, str(tmp_path / "m")]
    with subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "TMPDIR": str(tmp_path)}) as caller:
        assert hub.stalled.wait(PATIENCE_S)
        (child,) = children(caller.pid)
        caller.send_signal(signal.SIGKILL)
    assert awaited(lambda: gone(child))


def test_a_program_that_dies_is_an_error_without_credentials(
    hub: HubServer, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "AnotherOne"
    text = f"import sys; print('no json'); sys.stderr.write('Cannot go on with {secret} and {TOKEN}\\n'); sys.exit(3)"
    monkeypatch.setattr(fetch_program, "sources", lambda: {"__main__.py": text})
    runner = Runner(sys.executable, variables={"HF_TOKEN": secret})
    with pytest.raises(DeployError) as caught:
        fetching.resolve(runner, source)
    assert caught.value.problem == f"what fetches the weights, {sys.executable}, exited with 3"
    assert caught.value.detail == "Cannot go on with … and …"
    monkeypatch.setattr(fetch_program, "sources", lambda: {"__main__.py": "import os; os.kill(os.getpid(), 9)"})
    with pytest.raises(DeployError, match="was killed by signal 9"):
        fetching.resolve(runner, source)


@pytest.mark.parametrize("python", ["/nowhere/python", "/etc/passwd"])
def test_a_python_that_cannot_be_started(source: Source, python: str) -> None:
    with pytest.raises(DeployError, match=f"{python} cannot be started"):
        fetching.resolve(Runner(python), source)


def test_a_program_that_never_listens_does_not_block(source: Source) -> None:
    with pytest.raises(DeployError, match="exited with 1"):
        fetching.resolve(Runner("/bin/false"), source)


def test_variables_are_settings_of_the_network_the_hubs_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    given = {
        "HOME": "/h", "PATH": "/bin", "https_proxy": "p", "NO_PROXY": "n", "SSL_CERT_FILE": "c",
        "HF_ENDPOINT": "e", "HF_TOKEN": "t", "MODELSCOPE_CACHE": "m", "REQUESTS_CA_BUNDLE": "r",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for name in ("PYTHONPATH", "LD_PRELOAD", "AWS_SECRET_ACCESS_KEY", "HF_HUB_ENABLE_HF_TRANSFER", "ANSIBLE_CONFIG"):
        monkeypatch.setenv(name, "x")
    assert fetching.environment({"HF_TOKEN": "mine"}) == {**given, **fetching.SETTINGS, "HF_TOKEN": "mine"}
    of_another = fetching.environment({"TMPDIR": "/mine"}, "/home/other")
    assert (of_another["HOME"], of_another["XDG_CACHE_HOME"], of_another["TMPDIR"]) == (*["/home/other"] * 2, "/mine")


PACKAGE = "ansible_collections.deployer.sglang.plugins.module_utils"
BUILD = f"from {PACKAGE}.weights import fetch_program; sys.stdout.buffer.write(fetch_program.program())"


def built(code: str, *options: str) -> bytes:
    """The program as another Python builds it, which has to be told where this package is."""
    command = [sys.executable, "-I", *options, "-c", f"import sys\n{code}\n{BUILD}"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_the_program_is_found_in_an_archive(tmp_path: Path) -> None:
    """As Ansible sends modules: a zip, imported from."""
    archive = tmp_path / "module.zip"
    folder = PACKAGE.replace(".", "/")
    with zipfile.ZipFile(archive, "w") as packed:
        for part in range(1, folder.count("/") + 2):
            packed.writestr("/".join(folder.split("/")[:part]) + "/__init__.py", "")
        for path in (REPOSITORY / "plugins/module_utils").rglob("*.py"):
            packed.write(path, f"{folder}/{path.relative_to(REPOSITORY / 'plugins/module_utils')}")
    assert built(f"sys.path.insert(0, {str(archive)!r})", "-S") == program()


def test_the_program_is_found_by_ansibles_own_loader() -> None:
    """As on the controller, where actions import it."""
    loader = "from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder as Finder"
    assert built(f"{loader}\nFinder(paths=[{str(REPOSITORY)!r}])._install()") == program()


def test_a_module_takes_the_program_to_a_host(hub: HubServer, tmp_path: Path) -> None:
    """By Ansible itself, which looks for what a module imports and packs it."""
    make_tiny_model(tmp_path / "model")
    hub.folder = {f"/m/{path.name}": path.read_bytes() for path in (tmp_path / "model").iterdir()}
    given: dict[str, Any] = {"name": "m", "source": f"{hub.url}/folder/m/", "root": str(tmp_path / "root")}
    given |= {"variables": {"DEPLOYER_HTTP_AUTHORIZATION": TOKEN}}
    module = "deployer.sglang.model_source"
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [{module: given}]}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    settings = {"ANSIBLE_HOME": str(tmp_path / "ansible"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    settings |= {"ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY), "ANSIBLE_LOCALHOST_WARNING": "False"}
    settings |= {"ANSIBLE_PYTHON_INTERPRETER": sys.executable}
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(tmp_path / "play.yml")]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=1" in done.stdout
    (landed,) = (tmp_path / "root/artifacts/models").iterdir()
    assert (landed / "model.safetensors").read_bytes() == hub.folder["/m/model.safetensors"]


def test_the_program_has_every_module_of_its_own_and_no_other() -> None:
    folder = PACKAGE.replace(".", "/") + "/weights/fetch_child"
    own = {f"{folder}/{path.name}" for path in Path(fetch_child.__path__[0]).glob("*.py")}
    with zipfile.ZipFile(io.BytesIO(program())) as packed:
        texts = {name: packed.read(name).decode() for name in packed.namelist()}
    assert {name for name, text in texts.items() if text} == {"__main__.py", *own}
    imported = {word for text in texts.values() for word in re.findall(r"(?:from|import) (ansible[\w.]*)", text)}
    assert all(name.startswith(f"{PACKAGE}.weights.fetch_child.") for name in imported)


def test_two_at_once_are_two_programs(hub: HubServer, source: Source, tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def fetch(folder: str) -> None:
        try:
            fetching.fetch(Runner(sys.executable), source, folder)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=fetch, args=(str(tmp_path / name),)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert all((tmp_path / name / "model.safetensors").stat().st_size == 4 * MIB for name in "ab")
