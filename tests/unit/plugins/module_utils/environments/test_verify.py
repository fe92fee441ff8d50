from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.environments.verify import (
    LISTING,
    Content,
    listed_differences,
    open_files,
    read_content,
    read_listing,
    recorded_differences,
    recorded_files,
    write_listing,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

SITE = "lib/python3.11/site-packages"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A prefix with a conda package and a wheel, and a program of each."""
    prefix = tmp_path / "env"
    paths = [
        {"_path": "lib/libz.so.1", "path_type": "hardlink", "sha256": sha("z")},
        {"_path": "lib/libz.so", "path_type": "softlink", "sha256": sha("z")},
        {"_path": "bin/tool", "path_type": "hardlink", "sha256": "0" * 64, "prefix_placeholder": "/old",
         "sha256_in_prefix": sha("#!/new")},
        {"_path": "share/note", "path_type": "hardlink", "sha256": "0" * 64, "prefix_placeholder": "/old"},
    ]  # fmt: skip
    record = {"name": "zlib", "version": "1.3", "paths_data": {"paths": paths}}
    write(prefix / "conda-meta" / "zlib-1.3-0.json", json.dumps(record))
    write(prefix / "lib/libz.so.1", "z")
    (prefix / "lib/libz.so").symlink_to("libz.so.1")
    write(prefix / "bin/tool", "#!/new")
    write(prefix / "share/note", "written on installation")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"one").digest()).rstrip(b"=").decode()
    script = base64.urlsafe_b64encode(hashlib.sha256(b"run").digest()).rstrip(b"=").decode()
    rows = f"alpha/a.py,sha256={digest},3\n../../../bin/alpha,sha256={script},3\nalpha/__pycache__/a.pyc,,\n"
    write(prefix / SITE / "alpha-1.0.dist-info" / "RECORD", rows + "alpha-1.0.dist-info/RECORD,,\n")
    write(prefix / SITE / "alpha" / "a.py", "one")
    write(prefix / SITE / "alpha" / "__pycache__" / "a.pyc", "code")
    write(prefix / "bin/alpha", "run")
    return prefix


def test_an_untouched_environment_has_no_differences(prefix: Path) -> None:
    assert recorded_differences(prefix, read_content(prefix)) == []


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("lib/libz.so.1", "zlib 1.3"),
        ("bin/tool", "zlib 1.3"),
        ("bin/alpha", "alpha 1.0"),
        (f"{SITE}/alpha/a.py", "alpha 1.0"),
    ],
)
def test_a_changed_file_is_named_with_its_package_and_hashes(prefix: Path, path: str, package: str) -> None:
    before = sha((prefix / path).read_text())
    (prefix / path).write_text("flipped")
    (found,) = recorded_differences(prefix, read_content(prefix))
    assert str(found) == f"{path} of {package} was changed: sha256 wanted {before}, got {sha('flipped')}"


def test_a_file_that_two_packages_bring_is_one_of_theirs(prefix: Path) -> None:
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"two").digest()).rstrip(b"=").decode()
    write(prefix / SITE / "beta-2.0.dist-info" / "RECORD", f"alpha/a.py,sha256={digest},3\n")
    assert recorded_differences(prefix, read_content(prefix)) == []
    (prefix / SITE / "alpha" / "a.py").write_text("two")
    assert recorded_differences(prefix, read_content(prefix)) == []
    (prefix / SITE / "alpha" / "a.py").write_text("six")
    (found,) = recorded_differences(prefix, read_content(prefix))
    assert found.package == "alpha 1.0, beta 2.0"
    assert found.wanted == " or ".join(sorted([sha("one"), sha("two")]))


def test_a_missing_file_is_named(prefix: Path) -> None:
    (prefix / "lib/libz.so").unlink()
    (prefix / SITE / "alpha" / "a.py").unlink()
    found = recorded_differences(prefix, read_content(prefix))
    assert [str(one) for one in found] == [
        "lib/libz.so of zlib 1.3 is missing",
        f"{SITE}/alpha/a.py of alpha 1.0 is missing",
    ]


def test_the_listing_finds_what_records_do_not_have(prefix: Path) -> None:
    listed = read_content(prefix)
    (prefix / SITE / "alpha" / "__pycache__" / "a.pyc").write_text("other code")
    (prefix / "lib/libz.so").unlink()
    (prefix / "lib/libz.so").symlink_to("/tmp/evil.so")
    (prefix / SITE / "sitecustomize.py").write_text("evil")
    (prefix / SITE / "alpha" / "__pycache__" / "b.pyc").write_text("no source of it was compiled")
    # Who changes a file and its RECORD is found as well.
    (prefix / SITE / "alpha" / "a.py").write_text("two")
    record = prefix / SITE / "alpha-1.0.dist-info" / "RECORD"
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"two").digest()).rstrip(b"=").decode()
    record.write_text(f"alpha/a.py,sha256={digest},3\n")
    content = read_content(prefix)
    assert {one.path for one in recorded_differences(prefix, content)} == set()
    assert {(one.path, one.what) for one in listed_differences(prefix, content, listed)} == {
        (f"{SITE}/alpha/__pycache__/a.pyc", "changed"),
        ("lib/libz.so", "changed"),
        (f"{SITE}/sitecustomize.py", "added"),
        (f"{SITE}/alpha/__pycache__/b.pyc", "added"),
        (f"{SITE}/alpha/a.py", "changed"),
        (f"{SITE}/alpha-1.0.dist-info/RECORD", "changed"),
    }


def test_the_listing_is_kept_and_a_changed_one_refused(prefix: Path) -> None:
    content = read_content(prefix)
    sha256 = write_listing(prefix, content)
    assert read_listing(prefix, sha256) == content
    assert read_content(prefix) == content
    assert read_listing(prefix, "") is None
    (prefix / LISTING).write_text('{"files": {}, "links": {}}')
    with pytest.raises(DeployError, match="was changed: sha256 wanted"):
        read_listing(prefix, sha256)


def test_differences_are_none_for_equal_content() -> None:
    content = Content({"a": "1"}, {"b": "a"})
    assert listed_differences("/nowhere", content, content) == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": "a"}', '{"name": "a", "version": "1", "paths_data": {"paths": [1]}}']
)
def test_a_record_that_is_none_is_named(prefix: Path, text: str) -> None:
    path = prefix / "conda-meta" / "broken-1-0.json"
    path.write_text(text)
    with pytest.raises(DeployError, match=str(path)):
        recorded_files(prefix)


@given(st.text(max_size=80))
def test_any_record_of_a_wheel_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    prefix = tmp_path_factory.mktemp("env")
    record = prefix / SITE / "x-1.dist-info" / "RECORD"
    record.parent.mkdir(parents=True)
    record.write_text(text, encoding="utf-8")
    try:
        paths = recorded_files(prefix)
    except DeployError:
        return
    assert not any(path.startswith("..") for path in paths)


def test_a_pipe_is_a_difference_and_not_waited_for(prefix: Path) -> None:
    listed = read_content(prefix)
    os.mkfifo(prefix / "lib" / "pipe")
    os.mkfifo(prefix / "conda-meta" / "pipe-1-0.json")
    found = listed_differences(prefix, read_content(prefix), listed)
    assert [(one.path, one.what) for one in found] == [("conda-meta/pipe-1-0.json", "added"), ("lib/pipe", "added")]


def test_what_others_may_write_or_nobody_may_read_is_named(prefix: Path) -> None:
    assert open_files(prefix) == []
    (prefix / SITE / "alpha" / "a.py").chmod(0o666)
    (prefix / "bin/tool").chmod(0o700)
    assert [str(one) for one in open_files(prefix)] == [
        "bin/tool cannot be read by the services' user",
        f"{SITE}/alpha/a.py can be written by others than its owner",
    ]
