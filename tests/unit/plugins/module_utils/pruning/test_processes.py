"""Who uses an artifact, told from real processes."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.pruning import processes
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.processes import find_uses
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.rules import release_token

NAME = "x-0123456789ab"
OPERATOR, COLLEAGUE = 54321, 54322  # numeric ids that no account has
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")
MAP = "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); f.close()"
WAIT = "; sys.argv[:] = []; print(flush=True); input()"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "inference" / "artifacts" / "models" / NAME
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * mmap.PAGESIZE)
    return folder


@pytest.fixture
def start() -> Iterator[Any]:
    started: list[subprocess.Popen[bytes]] = []

    def run(words: list[Any], **options: Any) -> int:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        started.append(process)
        if "input()" in str(words):
            assert process.stdout is not None
            process.stdout.readline()
        return process.pid

    yield run
    for process in started:
        process.kill()
        process.communicate()


def root_of(artifact: Path) -> str:
    return str(artifact.parents[2])


def users(artifact: Path, **tokens: str) -> list[int]:
    """Ids of the processes that use the artifact."""
    found = find_uses(root_of(artifact), {NAME: str(artifact), **tokens}).held.get(NAME, ())
    return [int(user.split()[1]) for user in found]


def test_nobody_uses_what_no_process_names(artifact: Path) -> None:
    assert users(artifact) == []


def test_a_process_uses_what_it_has_mapped_opened_runs_or_stands_in(artifact: Path, start: Any) -> None:
    link = artifact.parents[3] / "other-name"  # so that the command itself does not name the artifact
    link.symlink_to(artifact)
    shutil.copy("/bin/sleep", artifact / "sleep")
    os.link(artifact / "sleep", artifact.parents[3] / "sleep")
    found = [
        start([sys.executable, "-c", MAP + WAIT, link / "weights"]),
        start([sys.executable, "-c", "import sys; f = open(sys.argv[1])" + WAIT, link / "weights"]),
        start([link / "sleep", "600"]),
        start(["/bin/sleep", "600"], cwd=artifact),
        start(["/bin/sleep", "600"], env={"MODEL": str(artifact)}),
    ]
    assert users(artifact) == sorted(found)


def test_a_file_that_was_removed_is_still_in_use(artifact: Path, start: Any) -> None:
    link = artifact.parents[3] / "other-name"
    link.symlink_to(artifact)
    pid = start([sys.executable, "-c", MAP + WAIT, link / "weights"])
    (artifact / "weights").unlink()
    assert users(artifact) == [pid]


def test_another_deployments_artifact_of_the_same_name_is_another(artifact: Path, start: Any, tmp_path: Path) -> None:
    other = tmp_path / "demo" / "artifacts" / "models" / NAME
    other.mkdir(parents=True)
    pid = start(["/bin/sleep", "600"], env={"MODEL": str(other)})
    assert users(artifact) == []
    alias = tmp_path / "alias"
    alias.symlink_to(root_of(artifact))
    assert pid not in users(artifact)
    aliased = start(["/bin/sleep", "600"], env={"MODEL": str(alias / "artifacts" / "models" / NAME)})
    gone = start(["/bin/sleep", "600"], env={"MODEL": f"/mnt/in/a/container/{NAME}"})
    assert users(artifact) == sorted([aliased, gone])


def test_a_process_tells_which_release_it_runs(artifact: Path, start: Any) -> None:
    token = release_token("0123456789ab")
    pid = start(["/bin/sleep", "600"], env={"INFERENCE_RELEASE": "0123456789ab"})
    held = find_uses(root_of(artifact), {token: ""}).held
    assert [user.split()[1] for user in held[token]] == [str(pid)]


@as_root
def test_a_container_that_mounts_an_artifact_uses_it_under_whatever_name(
    artifact: Path, start: Any, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    script = f"mount --bind {artifact} {tmp_path}/model && exec env -i {sys.executable} -c 'print(flush=True); input()'"
    words = ["unshare", "--mount", "sh", "-c", script]
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("mount namespaces cannot be made here")
    pid = start(words)
    assert users(artifact) == [pid]


def as_operator(root: str, artifact: Path) -> list[str]:
    """`unread` as a user sees it who is not root: in a child, so that this process stays what it is."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(OPERATOR)
            os.setuid(OPERATOR)
            os.write(writer, json.dumps(find_uses(root, {NAME: str(artifact)}).unread).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return list(json.loads(answer))


@as_root
def test_other_peoples_processes_that_cannot_be_read_are_named_where_they_may_come_in(start: Any) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        os.chmod(folder, 0o755)
        artifact = Path(folder) / "artifacts" / "models" / NAME
        artifact.mkdir(parents=True)
        assert not [one for one in as_operator(folder, artifact) if "hides" in one]
        pid = start(["/bin/sleep", "600"], user=COLLEAGUE, group=COLLEAGUE, extra_groups=[])
        assert f"pid {pid} of {COLLEAGUE}: /bin/sleep 600" in as_operator(folder, artifact)
        os.chmod(folder, 0o750)
        os.chown(folder, OPERATOR, OPERATOR)
        assert as_operator(folder, artifact) == []
        member = start(["/bin/sleep", "600"], user=COLLEAGUE, group=OPERATOR, extra_groups=[])
        assert f"pid {member} of {COLLEAGUE}: /bin/sleep 600" in as_operator(folder, artifact)


def test_what_a_folder_lets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    mine = folder.stat()
    modes = {str(folder): 0o710}

    def seen(path: str) -> os.stat_result:
        mode = stat.S_IFDIR | modes.get(str(path), 0o755)
        return os.stat_result((mode, 0, 0, 1, mine.st_uid, mine.st_gid, 0, 0, 0, 0))

    monkeypatch.setattr(processes.os, "stat", seen)
    stranger = mine.st_uid + 1
    assert processes._open_to(str(folder), mine.st_uid, frozenset())
    assert processes._open_to(str(folder), stranger, frozenset([mine.st_gid]))
    assert not processes._open_to(str(folder), stranger, frozenset())
    assert processes._open_to(str(folder), None, frozenset())
    monkeypatch.setattr(processes.os, "listxattr", lambda path: [processes.ACL])
    assert processes._open_to(str(folder), stranger, frozenset())
