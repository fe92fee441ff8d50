"""Pruning where something is not known, or is none of the deployment's: it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from tests.doubles.pruned_host import OLD, PrunedHost, date, deployed, digest, names, run, tree


@pytest.fixture
def host(tmp_path: Path) -> PrunedHost:
    return deployed(tmp_path / "inference")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("releases/old/release.json", "{"),
        ("releases/old/release.json", "{}"),
        ("releases/old/release.json", '"x"'),
        ("releases/old/release.json", '{"id": "new", "environment": {"path": "/x"}, "model": {"path": "/y"}}'),
        ("transaction.json", "{"),
        ("transaction.json", "[]"),
        ("transaction.json", '{"to": "lost"}'),
    ],
)
def test_where_use_is_not_known_nothing_goes(host: PrunedHost, path: str, text: str) -> None:
    damaged = host.root / "services" / "code2sql" / path
    damaged.write_text(text)
    before = tree(host.root)
    with pytest.raises(DeployError, match="nothing on this host is pruned") as raised:
        run(host)
    assert str(damaged) in raised.value.problem
    assert raised.value.fix
    assert tree(host.root) == before


def test_a_release_without_its_file_and_a_link_to_nothing_are_unknown_use(host: PrunedHost) -> None:
    folder = host.root / "services" / "code2sql"
    lost = folder / "releases" / "0123456789ab"
    lost.mkdir()
    with pytest.raises(DeployError, match=r"0123456789ab/release.json"):
        run(host)
    lost.rmdir()
    host.link("code2sql", "previous", "gone")
    with pytest.raises(DeployError, match="names release gone"):
        run(host)
    (folder / "previous").unlink()
    (folder / "previous").write_text("")
    with pytest.raises(DeployError, match="no link to a release"):
        run(host)


@pytest.mark.parametrize("place", ["services", "services/code2sql", "services/code2sql/releases"])
def test_services_behind_a_link_are_unknown_use(host: PrunedHost, place: str, tmp_path: Path) -> None:
    (host.root / place).rename(tmp_path / "elsewhere")
    (host.root / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeployError, match="symbolic link"):
        run(host)


def test_links_are_neither_followed_nor_removed(host: PrunedHost, tmp_path: Path) -> None:
    outside = tmp_path / "mine"
    outside.mkdir()
    (outside / "environment.json").write_text("{}")
    date(outside / "environment.json", OLD)
    environments = host.root / "artifacts" / "environments"
    (environments / "linked-0123456789ab").symlink_to(outside)
    (environments / f"old-{digest('old')[:12]}" / "inner").symlink_to(outside)
    done = run(host)
    assert (outside / "environment.json").exists()
    assert (environments / "linked-0123456789ab").is_symlink()
    assert str(environments / "linked-0123456789ab") in [row["path"] for row in done["left_alone"]]
    assert f"old-{digest('old')[:12]}" in names(done["removed"]), done


def test_what_is_not_the_deployments_is_left_alone_and_named(host: PrunedHost) -> None:
    foreign = [
        host.root / "artifacts" / "notes",
        host.root / "artifacts" / "environments" / "mine",
        host.root / "artifacts" / "environments" / "x-0123456789ab",
        host.root / "artifacts" / "models" / "x-0123456789ab",
        host.root / "incoming" / "x",
        host.root / "cache" / "pip",
        host.root / "services" / "code2sql" / "releases" / "notes",
    ]
    for folder in foreign:
        folder.mkdir(parents=True)
        (folder / "file").touch()
    (host.root / "artifacts" / "models" / "README").touch()
    done = run(host)
    assert all((folder / "file").exists() for folder in foreign)
    left = {row["path"] for row in done["left_alone"]}
    assert left == {*map(str, foreign), str(host.root / "artifacts" / "models" / "README")}


def test_a_service_that_is_not_described_is_not_removed(host: PrunedHost) -> None:
    done = run(host, described=["other"])
    assert "code2sql is not described any more" in done["notes"][0]
    assert (host.root / "services" / "code2sql" / "releases" / "new").exists()
