"""Verifying models on a host: whatever was done to a file is named, and nothing is touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.manifest import build_manifest
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights import verify
from ansible_collections.deployer.sglang.plugins.module_utils.weights.models import manifest_record
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MANIFEST_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.weights.verify import check_model, model_paths

WEIGHTS = "sub/model.safetensors"


def bring(root: Path, name: str = "qwen3") -> Path:
    """A model as a deployment leaves it."""
    source = root.parent / f"source-{name}"
    (source / "sub").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / WEIGHTS).write_bytes(b"weights of " + name.encode())
    manifest = build_manifest(str(source))
    target = Path(Store(str(root)).model(name, manifest.digest))
    shutil.copytree(source, target)
    (target / MANIFEST_FILE).write_text(manifest_record(manifest, str(target)))
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def found(model: Path, deep: bool) -> list[tuple[str, str, str]]:
    return [(one.file, one.wanted, one.got) for one in check_model(str(model), deep).problems]


@pytest.mark.parametrize("deep", [False, True])
def test_what_was_brought_is_ok(root: Path, deep: bool) -> None:
    model = bring(root)
    before = {path: path.stat() for path in model.rglob("*")}
    told: list[tuple[int, int]] = []
    checked = check_model(str(model), deep, lambda *now: told.append(now))
    assert checked.ok and checked.as_dict()["ok"] and checked.as_dict()["fix"] == ""
    assert (checked.name, checked.path, checked.files, checked.bytes) == ("qwen3", str(model), 2, 18)
    assert str(model).endswith(checked.digest[:12])
    assert (told[-1:] == [(18, 18)]) is deep
    after = {path: path.stat() for path in model.rglob("*")}
    assert {p: (s.st_mtime_ns, s.st_ino) for p, s in after.items()} == {
        p: (s.st_mtime_ns, s.st_ino) for p, s in before.items()
    }


def rotten(model: Path) -> None:
    """A byte changes, and nothing that tells of it does."""
    before = (model / WEIGHTS).stat()
    with (model / WEIGHTS).open("r+b") as stream:
        stream.write(b"W")
    os.utime(model / WEIGHTS, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(model: Path) -> None:
    shutil.copy2(model / WEIGHTS, model / "x")
    (model / "x").rename(model / WEIGHTS)


def to_a_link(model: Path) -> None:
    shutil.copy2(model / WEIGHTS, model.parent / "elsewhere")
    (model / WEIGHTS).unlink()
    (model / WEIGHTS).symlink_to(model.parent / "elsewhere")


def to_a_pipe(model: Path) -> None:
    (model / WEIGHTS).unlink()
    os.mkfifo(model / WEIGHTS)


def folder_to_a_link(model: Path) -> None:
    (model / "sub").rename(model.parent / "elsewhere")
    (model / "sub").symlink_to(model.parent / "elsewhere")


@pytest.mark.parametrize(
    ("change", "shallow", "deep"),
    [
        (rotten, [], [(WEIGHTS, "sha256 ", "sha256 ")]),
        (replaced, [(WEIGHTS, "16 bytes written ", "16 bytes written ")], []),
        (lambda model: os.utime(model / WEIGHTS, ns=(1, 1)), [(WEIGHTS, "16 bytes w", "16 bytes written 1970")], []),
        (lambda model: (model / WEIGHTS).write_bytes(b""), *[[(WEIGHTS, "16 bytes", "0 bytes")]] * 2),
        (lambda model: (model / WEIGHTS).unlink(), *[[(WEIGHTS, "16 bytes", "missing")]] * 2),
        (to_a_link, *[[(WEIGHTS, "16 bytes", "a symbolic link to ")]] * 2),
        (to_a_pipe, *[[(WEIGHTS, "16 bytes", "neither a file nor a folder")]] * 2),
        (folder_to_a_link, *[[("sub", "", "a symbolic link to "), (WEIGHTS, "16 bytes", "missing")]] * 2),
        (lambda model: (model / "new.safetensors").touch(), *[[("new.safetensors", "", "a file that is not in")]] * 2),
        (lambda model: (model / WEIGHTS).chmod(0o666), *[[(WEIGHTS, "writable by user ", "owner ")]] * 2),
        (lambda model: (model / "sub").chmod(0o777), *[[("sub", "writable by user ", "owner ")]] * 2),
        (lambda model: model.chmod(0o775), *[[(".", "writable by user ", "owner ")]] * 2),
        (lambda model: (model / MANIFEST_FILE).unlink(), *[[(MANIFEST_FILE, "the list", "cannot be read")]] * 2),
        (lambda model: (model / MANIFEST_FILE).write_text("{"), *[[(MANIFEST_FILE, "the list", "")]] * 2),
        (lambda model: (model / MANIFEST_FILE).write_text("[]"), *[[(MANIFEST_FILE, "the list", "not a man")]] * 2),
    ],
)
def test_whatever_was_done_is_named(
    root: Path, change: Callable[[Path], object], shallow: list[tuple[str, ...]], deep: list[tuple[str, ...]]
) -> None:
    model = bring(root)
    change(model)
    for is_deep, wanted in ((False, shallow), (True, deep)):
        problems = found(model, is_deep)
        assert len(problems) == len(wanted)
        for problem, (file, was, got) in zip(problems, wanted, strict=True):
            assert problem[0] == file
            assert problem[1].startswith(was) and problem[2].startswith(got)
        checked = check_model(str(model), is_deep)
        assert checked.ok is not bool(wanted)
        assert bool(checked.as_dict()["fix"]) is bool(wanted)


def test_both_hashes_are_given(root: Path) -> None:
    model = bring(root)
    wanted = check_model(str(model), deep=True)
    rotten(model)
    ((_, was, got),) = found(model, deep=True)
    manifest = build_manifest(str(model))
    assert got == f"sha256 {manifest.files[1].sha256}" != was
    assert wanted.ok


def test_a_manifest_that_was_exchanged_is_found(root: Path) -> None:
    """Weights and manifest that agree with each other are not enough: the folder's name says which model it was."""
    model = bring(root)
    (model / WEIGHTS).write_bytes(b"other weights")
    (model / MANIFEST_FILE).write_text(manifest_record(build_manifest(str(model)), str(model)))
    ((file, wanted, got),) = found(model, deep=True)
    assert file == MANIFEST_FILE
    assert wanted.startswith(f"digest {model.name[-12:]}") and got.startswith("digest ")


def test_a_file_that_cannot_be_read_is_a_problem_of_that_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = bring(root)
    opened = os.open

    def failing(path: str, *rest: int) -> int:
        if str(path).endswith(WEIGHTS):
            raise OSError(5, "Input/output error", path)
        return opened(path, *rest)

    monkeypatch.setattr(os, "open", failing)
    ((file, _, got),) = found(model, deep=True)
    assert file == WEIGHTS and "Input/output error" in got


def test_a_name_that_is_no_text_is_named(root: Path) -> None:
    model = bring(root)
    Path(os.fsdecode(os.fsencode(model) + b"/\xff")).touch()
    ((file, _, _),) = found(model, deep=False)
    assert file == "\\udcff"


def test_models_are_found_and_what_is_in_the_making_is_not(root: Path) -> None:
    assert list(model_paths(str(root))) == []
    models = [bring(root, name) for name in ("b", "a-b", "a")]
    folder = models[0].parent
    (folder / ".x.removing").mkdir()
    (folder / "not-ours").mkdir()
    (folder / "file").touch()
    lost = folder / f"lost-{'0' * 12}"
    lost.mkdir()
    assert list(model_paths(str(root))) == sorted(map(str, [*models, lost]))
    names = [check_model(path, deep=False).name for path in model_paths(str(root))]
    assert names == ["a", "a-b", "b", "lost"]


def test_many_problems_are_counted_and_the_first_are_given(root: Path) -> None:
    model = bring(root)
    for number in range(verify.SHOWN + 3):
        (model / f"{number:03}").touch()
    value = check_model(str(model), deep=False).as_dict()
    assert (value["count"], len(value["problems"])) == (verify.SHOWN + 3, verify.SHOWN)
    assert value["problems"][0]["file"] == "000"


@given(st.integers(0, 15), st.integers(1, 255))
@settings(max_examples=30)
def test_no_byte_can_change(tmp_path_factory: pytest.TempPathFactory, at: int, by: int) -> None:
    root = tmp_path_factory.mktemp("host") / "root"
    root.mkdir()
    model = bring(root)
    data = bytearray((model / WEIGHTS).read_bytes())
    data[at] ^= by
    (model / WEIGHTS).write_bytes(bytes(data))
    assert [file for file, _, _ in found(model, deep=True)] == [WEIGHTS]
