"""Receiving an artifact: nothing unverified lands, and what arrived is not sent again."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import incoming
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, build_manifest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    base = tmp_path / "source"
    (base / "sub").mkdir(parents=True)
    (base / "a").write_bytes(b"aaaa")
    (base / "sub" / "b").write_bytes(b"bb")
    return base


@pytest.fixture
def manifest(source: Path) -> Manifest:
    return build_manifest(str(source))


def pack(source: Path, arriving: Path, *names: str) -> None:
    with tarfile.open(arriving / incoming.PACK, "w") as archive:
        for name in names:
            archive.add(source / name, arcname=name)


def test_files_arrive_are_verified_and_land(source: Path, manifest: Manifest, tmp_path: Path) -> None:
    arriving, target = tmp_path / "incoming" / "x", tmp_path / "artifacts" / "x"
    assert incoming.prepare(str(arriving), manifest, 0) == ["a", "sub/b"]
    pack(source, arriving, "a", "sub/b")
    incoming.verify(str(arriving), manifest)
    incoming.land(str(arriving), str(target), manifest, {"note": "hello"})
    assert (target / "sub" / "b").read_bytes() == b"bb"
    assert (target / "note").read_text() == "hello"
    assert not arriving.exists()
    assert (target / "a").stat().st_mode & 0o777 == 0o644


def test_a_transfer_resumes_with_what_is_missing(source: Path, manifest: Manifest, tmp_path: Path) -> None:
    arriving = tmp_path / "incoming" / "x"
    incoming.prepare(str(arriving), manifest, 0)
    (arriving / "a").write_bytes(b"aaaa")
    (arriving / "sub" / "b").write_bytes(b"b")
    assert incoming.prepare(str(arriving), manifest, 0) == ["sub/b"]
    with pytest.raises(DeployError, match="did not arrive"):
        incoming.verify(str(arriving), manifest)


def test_a_flipped_byte_is_refused_and_removed(manifest: Manifest, tmp_path: Path) -> None:
    arriving = tmp_path / "incoming" / "x"
    incoming.prepare(str(arriving), manifest, 0)
    (arriving / "a").write_bytes(b"aaab")
    (arriving / "sub" / "b").write_bytes(b"bb")
    with pytest.raises(DeployError, match=r"a differs from its manifest: sha256 wanted .* got"):
        incoming.verify(str(arriving), manifest)
    assert incoming.prepare(str(arriving), manifest, 0) == ["a"]


def test_a_pack_writes_nothing_that_the_manifest_does_not_name(
    source: Path, manifest: Manifest, tmp_path: Path
) -> None:
    arriving = tmp_path / "incoming" / "x"
    incoming.prepare(str(arriving), manifest, 0)
    (source / "evil").write_text("x")
    with tarfile.open(arriving / incoming.PACK, "w") as archive:
        archive.add(source / "evil", arcname="../evil")
        archive.add(source / "a", arcname="a")
        archive.add(source / "sub" / "b", arcname="sub/b")
    incoming.verify(str(arriving), manifest)
    assert not (tmp_path / "incoming" / "evil").exists()


def test_too_little_room_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"needs .* GB and .* has .* GB free"):
        incoming.check_room(str(tmp_path / "not" / "yet"), 10**18, "the transfer")


@pytest.mark.parametrize("name", ["a.part", "a", "sub/b", "link"])
def test_a_link_that_was_put_among_the_files_is_refused(manifest: Manifest, tmp_path: Path, name: str) -> None:
    arriving = tmp_path / "incoming" / "x"
    incoming.prepare(str(arriving), manifest, 0)
    (tmp_path / "victim").write_text("precious")
    (arriving / name).symlink_to(tmp_path / "victim")
    with pytest.raises(DeployError, match="neither a plain file nor a folder"):
        incoming.verify(str(arriving), manifest)
    with pytest.raises(DeployError, match="neither a plain file nor a folder"):
        incoming.prepare(str(arriving), manifest, 0)
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_second_name_of_a_file_elsewhere_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    arriving = tmp_path / "incoming" / "x"
    incoming.prepare(str(arriving), manifest, 0)
    (tmp_path / "victim").write_text("aaaa")
    os.link(tmp_path / "victim", arriving / "a")
    with pytest.raises(DeployError, match="neither a plain file nor a folder"):
        incoming.verify(str(arriving), manifest)
