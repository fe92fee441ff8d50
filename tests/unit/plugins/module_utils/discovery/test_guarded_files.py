"""Reading what other users wrote: nothing blocks, floods, or is read that its owner may not read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.discovery.guarded_files import (
    Owner,
    entries_of,
    folders_in,
    owner_of,
    printable,
    read_beginning,
    text_or_nothing,
)

NOBODY = Owner(65534, 65534)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone reads for others")


def test_the_beginning_of_a_file_is_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\xfftwo" + b"x" * 100_000)
    text = read_beginning(str(path), owner_of(str(tmp_path)))
    assert text.startswith("one\ufffdtwo")
    assert len(text) == 64 * 1024


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("text")
    (tmp_path / "link").symlink_to("cache")
    assert read_beginning(str(tmp_path / "link"), owner_of(str(tmp_path))) == "text"


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/tty", "/proc/kmsg", "/proc/self/environ", "/", "/nowhere"])
def test_what_is_no_plain_file_is_not_opened(tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(target)
    assert text_or_nothing(str(tmp_path / "link"), owner_of(str(tmp_path))) == ""


def test_a_fifo_and_a_socket_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        read_beginning(str(tmp_path / "fifo"), owner_of(str(tmp_path)))


@as_root
def test_root_reads_for_others_only_what_they_may_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root:hash")
    secret.chmod(0o640)
    (tmp_path / "link").symlink_to(secret)
    with pytest.raises(OSError, match="not readable for the owner"):
        read_beginning(str(tmp_path / "link"), NOBODY)
    assert text_or_nothing("/etc/shadow", NOBODY) == ""
    os.chown(secret, 0, NOBODY.gid)  # shared by its group
    assert read_beginning(str(secret), NOBODY) == "root:hash"
    os.chown(secret, NOBODY.uid, 0)
    assert read_beginning(str(secret), NOBODY) == "root:hash"
    assert read_beginning("/etc/passwd", NOBODY)


def test_folders_are_listed_up_to_a_limit(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    assert entries_of(str(tmp_path)) == [".hidden", "a", "b", "file"]
    assert len(entries_of(str(tmp_path), 2)) == 2
    assert list(folders_in(str(tmp_path))) == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert list(folders_in("/no\0where")) == []


def test_text_for_a_result_is_valid_and_printable() -> None:
    assert printable("a\x1b[2J\udcff\u202eb c é") == "a?[2J\ufffd?b c é"
