"""Adopting what runs, ending it, and starting the very same again."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import journal, procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.adopt import adopt, look
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.record import PRIVATE_FILE, record_of, unwritable
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.serving import Server, find_server
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.supervision import UNIT, Supervision
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    LAUNCH_FILE,
    RELEASE_VARIABLE,
    Artifact,
    Release,
    load_release,
    release_id,
    verify_release,
)
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import stop, wait_until
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.by_hand import ADOPTED_FILE, ByHand
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.unit import UnitSupervisor
from tests.unit.plugins.module_utils.adoption.conftest import SERVICE, Bench

SECRET = "correct-horse-battery"
BYTES = b"caf\xe9\xff".decode("utf-8", "surrogateescape")
VARIABLES = {
    "HF_TOKEN": SECRET,
    "BASH_FUNC_greet%%": "() {  echo hello\n}",
    "LINES": "one\ntwo",
    "LATIN": BYTES,
    "QUOTES": "a'b\"c$d`e\\",
    "CUDA_VISIBLE_DEVICES": "7",
}


def taken(bench: Bench, **more: Any) -> str:
    return adopt(bench.folder, SERVICE, bench.port, bench.root, "process", "mia", **more)


def told(server: Server) -> dict[str, Any]:
    """All that has to be the same after a rollback."""
    names = (
        "argv",
        "cwd",
        "executable",
        "program",
        "user",
        "stdout",
        "stderr",
        "umask",
        "limits",
        "nice",
        "cpus",
        "gpus",
    )
    values = {name: getattr(server, name) for name in (*names, "ignores_hangup", "engine_argv")}
    variables = {name: value for name, value in server.environ.items() if name != RELEASE_VARIABLE}
    return {**values, "environ": variables}


def restarted(bench: Bench) -> Server:
    """End the adopted process, start the release as a rollback does, and find what serves then."""
    identifier = bench.folder.release_of("adopted")
    assert identifier is not None
    staged = load_release(bench.folder.release(identifier))
    supervisor = supervisor_for("process", SERVICE, bench.folder)
    stop(supervisor, bench.port, 10)
    supervisor.start_committed(staged)
    assert wait_until(lambda: bool(procfs.listening_inodes(bench.port)), 20), bench.log.read_text()
    state = supervisor.state()
    assert state.release == identifier
    found = find_server(bench.port)
    assert found is not None
    assert found.environ[RELEASE_VARIABLE] == identifier
    assert found.family <= state.pids
    return found


def ended(bench: Bench) -> None:
    stop(supervisor_for("process", SERVICE, bench.folder), bench.port, 10)


@pytest.mark.parametrize("way", ["plain", "uv", "script"])
def test_the_same_is_started_again(bench: Bench, way: str) -> None:
    command = bench.command("--api-key", SECRET, BYTES) if way == "plain" else bench.command()
    accepts = (bench.path / "sglang/launch_server.py").read_text()
    accepts = accepts.replace(
        'parser.add_argument("--model-path")',
        'parser.add_argument("--api-key"); parser.add_argument("rest", nargs="*")',
    )
    (bench.path / "sglang/launch_server.py").write_text(accepts)
    (bench.path / "start.sh").write_text(" ".join(bench.command()) + "\ntrue\n")
    argv = {"plain": command, "uv": ["uv", "run", *command], "script": ["bash", "./start.sh"]}[way]
    before = bench.start(["nohup", *argv], {**VARIABLES, "PATH": f"{bench.path}:/usr/bin:/bin"})
    taken(bench)
    after = restarted(bench)
    assert told(after) == told(before)
    ended(bench)
    assert find_server(bench.port) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes of others")
@pytest.mark.parametrize("user", ["nobody", "daemon"])
def test_it_is_started_as_the_user_who_ran_it(bench: Bench, user: str) -> None:
    before = bench.start(bench.command(), VARIABLES, user=user)
    assert before.user.name == user
    release = taken(bench)
    private = os.path.join(bench.folder.release(release), PRIVATE_FILE)
    assert os.stat(private).st_uid == before.user.uid
    after = restarted(bench)
    assert told(after) == told(before)
    assert after.user == before.user
    ended(bench)


def test_secrets_are_in_the_private_file_alone(bench: Bench) -> None:
    (bench.path / "sglang/launch_server.py").write_text(
        (bench.path / "sglang/launch_server.py").read_text().replace('"--model-path")', '"--api-key")')
    )
    bench.start(bench.command("--api-key", SECRET), VARIABLES)
    found = look(bench.port, ())
    release = taken(bench)
    holding = []
    for folder, _, names in os.walk(bench.root):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path) and SECRET in Path(path).read_text():
                holding.append(path)
    private = os.path.join(bench.folder.release(release), PRIVATE_FILE)
    assert holding == [private]
    assert stat.S_IMODE(os.stat(private).st_mode) == 0o600
    assert SECRET not in repr(found)
    staged = load_release(bench.folder.release(release))
    assert staged.release.argv[-2:] == ("--api-key", "***")
    assert staged.release.adopted["hidden"] == ["HF_TOKEN", "LATIN"]
    subprocess.run(["sh", "-n", os.path.join(bench.folder.release(release), LAUNCH_FILE)], check=True)


def test_a_release_like_any_other_is_made(bench: Bench) -> None:
    server = bench.start(bench.command(), {"CUDA_VISIBLE_DEVICES": "6,7"})
    found = look(bench.port, ())
    assert found is not None
    assert (found.engine, found.served_name, found.problem, found.automatic) == ("sglang", SERVICE, "", True)
    assert found.gpus == ("6", "7")
    assert found.log == str(bench.log)
    release = taken(bench)
    staged = load_release(bench.folder.release(release))
    verify_release(bench.folder.release(release))
    assert (
        staged.id
        == release
        == release_id(
            staged.release,
            staged.launch.replace(f"release {release}:", "release :")
            .replace(f"releases/{release} ", "releases/ ")
            .replace(f"{RELEASE_VARIABLE} {release}\n", f"{RELEASE_VARIABLE} ''\n"),
            staged.unit,
        )
    )
    assert bench.folder.release_of("current") == bench.folder.release_of("adopted") == release
    assert bench.folder.release_of("previous") is None
    assert staged.release.served_name == SERVICE
    assert staged.release.supervisor == "process"
    assert staged.release.working_directory == str(bench.path)
    assert {path for path, _ in staged.release.required} == {server.program, str(bench.path)}
    events = [json.loads(line) for line in Path(bench.folder.journal).read_text().splitlines()]
    assert [(one["event"], one["to"], one["initiator"]) for one in events] == [("adopted", release, "mia")]
    marks = json.loads(Path(bench.folder.path, ADOPTED_FILE).read_text())
    assert (marks["pid"], marks["start_time"]) == (server.engine_pid, server.start_time)


def written(path: Path) -> tuple[int, ...]:
    """What writing a file anew changes; reading it changes when it was read last."""
    found = path.lstat()
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def test_adopting_twice_changes_nothing(bench: Bench) -> None:
    bench.start(bench.command())
    first = taken(bench)
    shown = {path: written(path) for path in Path(bench.root).rglob("*")}
    assert taken(bench) == first
    assert {path: written(path) for path in Path(bench.root).rglob("*")} == shown
    state = supervisor_for("process", SERVICE, bench.folder).state()
    assert look(bench.port, state.pids) is None


@pytest.mark.parametrize("broken", ["replace", "rename", "symlink"])
def test_an_interrupted_adoption_is_made_good(bench: Bench, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.start(bench.command())
    original: Callable[..., Any] = getattr(os, broken)
    for turn in range(30):
        calls = 0

        def failing(*args: Any, turn: int = turn, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > turn:
                raise OSError(28, "No space left on device")
            return original(*args, **more)

        with monkeypatch.context() as patched:
            patched.setattr(os, broken, failing)
            try:
                release = taken(bench)
                break
            except OSError:
                continue
    assert bench.folder.release_of("current") == release
    assert supervisor_for("process", SERVICE, bench.folder).state().release == release
    assert bench.folder.release_of("previous") is None


def test_what_was_current_before_is_previous(bench: Bench) -> None:
    bench.start(bench.command())
    os.makedirs(bench.folder.release("aaaaaaaaaaaa"))
    os.symlink("releases/aaaaaaaaaaaa", bench.folder.link("current"))
    release = taken(bench)
    assert bench.folder.release_of("previous") == "aaaaaaaaaaaa"
    assert journal.entries(bench.folder)[-1]["from"] == "aaaaaaaaaaaa"
    assert bench.folder.release_of("current") == release


def test_a_program_of_no_known_engine_is_taken_where_it_speaks_openai(bench: Bench) -> None:
    bench.start(bench.command(engine=False))
    found = look(bench.port, ())
    assert found is not None
    assert (found.engine, found.automatic, found.served_name) == ("unknown", True, SERVICE)
    assert load_release(bench.folder.release(taken(bench))).release.engine == "unknown"


def test_any_other_program_only_on_demand(bench: Bench) -> None:
    bench.start([bench.command()[0], "-m", "http.server", str(bench.port), "--bind", "127.0.0.1"])
    found = look(bench.port, ())
    assert found is not None
    assert not found.automatic
    assert not found.problem
    with pytest.raises(DeployError, match="any_command"):
        taken(bench)
    release = load_release(bench.folder.release(taken(bench, any_command=True))).release
    assert release.served_name == ""


def test_what_does_not_answer_is_not_adopted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.start(bench.command("--fault", "hang"))
    monkeypatch.setattr("ansible_collections.deployer.sglang.plugins.module_utils.adoption.asking.PAUSE", 0)
    with pytest.raises(DeployError, match="503"):
        taken(bench)
    assert not os.path.exists(bench.folder.path)


def test_a_folder_that_is_gone_is_a_problem(bench: Bench) -> None:
    gone = bench.path / "gone"
    gone.mkdir()
    bench.start(bench.command(), cwd=gone)
    gone.rmdir()
    found = look(bench.port, ())
    assert found is not None
    assert "working folder" in found.problem
    with pytest.raises(DeployError, match="predecessor"):
        taken(bench)


def test_a_server_that_asks_for_a_key_is_asked_with_its_own(bench: Bench) -> None:
    script = bench.path / "sglang/launch_server.py"
    text = script.read_text().replace('"--model-path")', '"--api-key")')
    asks = 'if self.path == "/v1/models" and self.headers["Authorization"] != "Bearer correct-horse-battery":'
    asks += '\n            self._answer({}, 401)\n        elif self.path == "/health":'
    script.write_text(text.replace('if self.path == "/health":', asks, 1))
    bench.start(bench.command("--api-key", SECRET))
    found = look(bench.port, ())
    assert found is not None
    assert found.served_name == SERVICE
    assert load_release(bench.folder.release(taken(bench))).release.served_name == ""


def test_nothing_serves(bench: Bench) -> None:
    assert look(bench.port, ()) is None
    with pytest.raises(DeployError, match="nothing listens"):
        taken(bench)


def test_a_log_that_cannot_be_opened_keeps_nothing_from_starting(bench: Bench) -> None:
    bench.start(bench.command())
    taken(bench)
    ended(bench)
    bench.log.unlink()
    bench.log.mkdir()
    supervisor = supervisor_for("process", SERVICE, bench.folder)
    supervisor.start_committed(load_release(bench.folder.release(bench.folder.release_of("adopted") or "")))
    assert wait_until(lambda: bool(procfs.listening_inodes(bench.port)), 20)
    assert "cannot be opened" in Path(bench.folder.logs, "service.log").read_text()
    ended(bench)


def test_a_unit_of_the_hosts_own_stays_one(bench: Bench) -> None:
    server = bench.start(bench.command(), VARIABLES)
    made = record_of(server, Supervision(UNIT, "llm.service", "enabled"), SERVICE, bench.root, "systemd", SERVICE)
    release = made.staged.release
    assert release.supervisor == "unit:llm.service"
    assert release.adopted["enabled"] == "enabled"
    assert "systemctl start llm.service" in made.staged.launch
    assert "[Service]" not in made.staged.unit
    assert not made.private.variables
    supervisor = supervisor_for("unit:llm.service", SERVICE, bench.folder)
    assert isinstance(supervisor, UnitSupervisor)
    assert supervisor.unit == "llm.service"


def test_the_unit_of_what_ran_by_hand(bench: Bench) -> None:
    server = bench.start(bench.command(), {"CUDA_VISIBLE_DEVICES": "0"}, cwd=bench.path)
    odd = dataclasses.replace(server, cwd="/home/mia/100% sure", cpus=(0, 1))
    unit = record_of(odd, Supervision("hand"), SERVICE, bench.root, "systemd", SERVICE).staged.unit
    for line in (
        f'RequiresMountsFor={bench.root} "/home/mia/100%% sure"',
        f"ExecStart={bench.folder.path}/current/launch.sh",
        "KillMode=mixed",
        "Restart=always",
        "UMask=0037",
        "CPUAffinity=0 1",
        f"LimitNOFILE=512:{server.limits.nofile[1].replace('unlimited', 'infinity')}",
    ):
        assert line in unit.splitlines()
    assert "Protect" not in unit


def test_a_folder_whose_name_would_write_a_line_of_the_unit_is_refused(bench: Bench) -> None:
    """`ExecStartPre=+…` runs as root."""
    server = bench.start(bench.command(), cwd=bench.path)
    evil = dataclasses.replace(server, cwd="/tmp/eve\nExecStartPre=+/tmp/eve/run")
    assert unwritable(evil)
    with pytest.raises(DeployError, match="holds control characters"):
        record_of(evil, Supervision("hand"), SERVICE, bench.root, "systemd", SERVICE)


def test_releases_of_the_deployment_have_no_trace_of_it() -> None:
    artifact = Artifact("x", "e" * 64, "/x")
    plain = Release("s", "sglang", ("p",), {}, artifact, artifact, "n", (), "h", 1, "process", "", "/r", "/w", 1)
    assert "adopted" not in plain.as_dict()
    assert Release.from_dict(plain.as_dict()) == plain
    taken_over = dataclasses.replace(plain, adopted={"by": "hand"})
    assert Release.from_dict(taken_over.as_dict()) == taken_over


def test_by_hand_is_in_front_until_it_ends(bench: Bench) -> None:
    bench.start(bench.command())
    release = taken(bench)
    supervisor = supervisor_for("process", SERVICE, bench.folder)
    assert isinstance(supervisor, ByHand)
    assert supervisor.state().release == release
    assert supervisor.log_tail(5) == "\n".join(bench.log.read_text().strip().splitlines()[-5:])
    supervisor.commit(load_release(bench.folder.release(release)))
    stop(supervisor, bench.port, 10)
    assert not supervisor.state().running
    assert not supervisor.state().pids
    assert supervisor_for("process", SERVICE, bench.folder).state().release is None


@pytest.mark.parametrize("fault", ["none", "ignore-term", "orphan"])
def test_a_script_does_not_start_it_again(bench: Bench, fault: str) -> None:
    script = bench.path / "start.sh"
    script.write_text(f"while true; do {' '.join(bench.command('--fault', fault))}; echo again; done\n")
    bench.start(["bash", str(script)])
    if fault == "orphan":
        assert wait_until(lambda: len(find_server(bench.port).family) == 3, 10)  # type: ignore[union-attr]
    taken(bench)
    supervisor = supervisor_for("process", SERVICE, bench.folder)
    before = supervisor.state().pids
    stop(supervisor, bench.port, 2)
    assert not any((found := procfs.read_process(pid)) and found.state not in "ZX" for pid in before)
    assert "again" not in bench.log.read_text()


def test_an_engine_that_its_script_started_anew_is_still_the_service(bench: Bench) -> None:
    script = bench.path / "start.sh"
    script.write_text(f"while true; do {' '.join(bench.command())}; done\n")
    server = bench.start(["bash", str(script)])
    release = taken(bench)
    os.kill(server.engine_pid, 9)
    assert wait_until(lambda: (new := find_server(bench.port)) is not None and new.engine_pid != server.engine_pid, 20)
    supervisor = supervisor_for("process", SERVICE, bench.folder)
    state = supervisor.state()
    assert state.release == release
    assert look(bench.port, state.pids) is None
    stop(supervisor, bench.port, 5)
    assert find_server(bench.port) is None
