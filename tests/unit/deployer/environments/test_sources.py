from __future__ import annotations

import string
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments import sources as package_sources
from deployer.environments.sources import (
    PackageSources,
    parse_pip_settings,
    read_sources,
    redacted,
    without_credentials,
)

MIRROR = "https://${M_USER}:${M_PASSWORD}@mirror.example.com/conda-forge"


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_sources, "pip_settings", dict)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/dev/null")


def sources_with(folder: Path, text: str) -> PackageSources:
    (folder / "sources.yml").write_text(text)
    return read_sources(folder / "sglang")


def refusal(folder: Path, text: str) -> DeployError:
    with pytest.raises(DeployError) as error:
        sources_with(folder, text)
    return error.value


def test_channels_without_settings_are_the_public_ones(tmp_path: Path) -> None:
    sources = read_sources(tmp_path)
    assert sources == PackageSources(index_strategy="unsafe-best-match")
    assert sources.channel_url("conda-forge") == "https://conda.anaconda.org/conda-forge"
    assert sources.channel_url("https://c.example.com/team/") == "https://c.example.com/team"
    locked = "https://conda.anaconda.org/conda-forge/noarch/a-1-0.conda"
    assert sources.fetch_url(locked) == locked == sources.canonical_url(locked)


def test_mapped_channel_is_fetched_with_credentials_and_locked_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M_USER", "me")
    monkeypatch.setenv("M_PASSWORD", "hunter2/@:%")
    sources = sources_with(tmp_path, f'channels: {{conda-forge: "{MIRROR}"}}')
    fetched = "https://me:hunter2%2F%40:%25@mirror.example.com/conda-forge/linux-64/a-1-0.conda"
    locked = "https://conda.anaconda.org/conda-forge/linux-64/a-1-0.conda"
    assert sources.fetch_url(locked) == fetched
    assert sources.canonical_url(fetched) == locked
    assert sources.canonical_url("https://mirror.example.com/conda-forge/linux-64/a-1-0.conda") == locked
    assert sources.channel_url("conda-forge/label/rc").endswith("@mirror.example.com/conda-forge/label/rc")
    assert sources.channel_url("conda-forge-rc") == "https://conda.anaconda.org/conda-forge-rc"
    assert "hunter2" not in repr(sources)


def test_channel_may_be_mapped_to_a_folder_and_by_url(tmp_path: Path) -> None:
    sources = sources_with(tmp_path, 'channels: {team: ./team, "https://c.example.com/x": "https://m.example.com/x/"}')
    assert sources.channel_url("team") == (tmp_path / "team").as_uri()
    assert sources.fetch_url("https://c.example.com/x/noarch/a.conda") == "https://m.example.com/x/noarch/a.conda"


def test_nearer_file_counts(tmp_path: Path) -> None:
    (tmp_path / "sglang").mkdir()
    (tmp_path / "sglang" / "sources.yml").write_text("find_links: [wheels]")
    assert sources_with(tmp_path, "find_links: [other]").find_links == (str(tmp_path / "sglang" / "wheels"),)


@pytest.mark.parametrize(
    ("pip", "text", "indexes", "public", "strategy"),
    [
        ({}, "", (), True, "unsafe-best-match"),
        ({"extra-index-url": "https://a.example.com https://b.example.com"}, "", ("a", "b"), True, "unsafe-best-match"),
        ({"index-url": "https://a.example.com"}, "", ("a",), False, "unsafe-best-match"),
        ({"no-index": "1", "extra-index-url": "https://a.example.com"}, "", (), False, "unsafe-best-match"),
        ({"index-url": "https://a.example.com"}, "indexes: [https://b.example.com/]", ("b",), False, "first-index"),
        ({"index-url": "https://a.example.com"}, "indexes: []", (), False, "first-index"),
    ],
)
def test_indexes_are_the_files_else_pips(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pip: dict[str, str],
    text: str,
    indexes: tuple[str, ...],
    public: bool,
    strategy: str,
) -> None:
    monkeypatch.setattr(package_sources, "pip_settings", lambda: pip)
    sources = sources_with(tmp_path, text)
    assert sources.indexes == tuple(f"https://{host}.example.com" for host in indexes)
    assert (sources.public_index, sources.index_strategy) == (public, strategy)


def test_pip_settings_of_commands_and_variables_outrank() -> None:
    printed = """:env:.find-links='/a b'
download.index-url='https://u:p@d.example.com/simple'
global.cert='/ca.pem'
global.find-links='/c'
global.index-url='https://g.example.com/simple'
list.format='json'
broken
"""
    assert parse_pip_settings(printed) == {
        "cert": "/ca.pem",
        "find-links": "/a b",
        "index-url": "https://u:p@d.example.com/simple",
    }


def test_pip_settings_come_from_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (tmp_path / "pip.conf").write_text(
        "[global]\ncert = /ca.pem\n[download]\nextra-index-url = https://x.example.com\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_INDEX_URL", "https://u:p@e.example.com/simple")
    found = package_sources.pip_settings()
    assert found["index-url"] == "https://u:p@e.example.com/simple"
    assert found["extra-index-url"] == "https://x.example.com"


def test_pips_missing_folders_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_sources, "pip_settings", lambda: {"find-links": f"{tmp_path} {tmp_path}/none"})
    assert read_sources(tmp_path).find_links == (str(tmp_path),)


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@m.example.com/x",
        "https://me:${M_PASSWORD}hunter2@m.example.com/x",
        "https://m.example.com/t/hunter2/x",
        "https://m.example.com/x?token=hunter2",
        "https://hunter2hunter2hunter2hunter2@m.example.com/x",
    ],
)
def test_literal_secrets_are_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    for text in (f'indexes: ["{url}"]', f'channels: {{a: "{url}"}}', f'find_links:\n- "{url}"'):
        error = refusal(tmp_path, text)
        assert "has a password or token in it" in error.problem
        assert "${VARIABLE}" in error.fix
        assert "hunter2" not in str(error)


def test_unset_variable_is_named_with_key_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M_USER", "me")
    monkeypatch.delenv("M_PASSWORD", raising=False)
    error = refusal(tmp_path, f'channels:\n  conda-forge: "{MIRROR}"')
    assert error.problem == (
        f"{tmp_path}/sources.yml line 2: channels[conda-forge] needs the environment variable M_PASSWORD, "
        "which is not set"
    )


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("index: []", "line 1: index is not a known key", "did you mean indexes?"),
        ("indexes: {a: b}", "line 1: indexes is not a list", ""),
        ("indexes: [ftp://x.example.com]", "indexes[0] is not a URL", "https://"),
        ("indexes: ['https:///x']", "indexes[0] is not a URL", ""),
        ("indexes: ['https://h:port/x']", "indexes[0] is not a URL", ""),
        ("channels: {a: }", "channels[a] is empty", ""),
        ("channels: [a]", "channels is not a mapping", ""),
        ("channels: {'https://u:p@h/x': https://h/x}", "a channel's name has credentials", ""),
        ("a: [", "sources.yml line 1 is not YAML", ""),
    ],
)
def test_mistakes_name_their_place(tmp_path: Path, text: str, problem: str, fix: str) -> None:
    error = refusal(tmp_path, text)
    assert problem in error.problem
    assert fix in error.fix


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://u:p@h.example.com:8443/x#sha256=00", "https://h.example.com:8443/x#sha256=00"),
        ("https://u:p@ss@h.example.com/x", "https://h.example.com/x"),
        (
            "https://h.example.com/t/to-ken-1/conda-forge/noarch/a.conda",
            "https://h.example.com/conda-forge/noarch/a.conda",
        ),
        ("https://h.example.com/x?X-Amz-Signature=abc&v=1", "https://h.example.com/x?v=1"),
        ("https://h.example.com/x?access_token=abc", "https://h.example.com/x"),
        ("https://h.example.com/simple/t/", "https://h.example.com/simple/t/"),
        ("/a/folder", "/a/folder"),
    ],
)
def test_credentials_are_stripped(url: str, bare: str) -> None:
    assert without_credentials(url) == bare == without_credentials(bare)


@given(st.text())
def test_stripping_takes_any_text(text: str) -> None:
    without_credentials(text)
    redacted(text, PackageSources())


@given(st.text(string.ascii_letters + string.digits + "-_~!@#%/ ", min_size=3).filter(lambda s: s.strip("* ")))
def test_no_form_of_a_known_secret_is_left(secret: str) -> None:
    sources = PackageSources({"a": f"https://me:{quote(secret, '')}@h.example.com/a"}, secrets=frozenset({secret}))
    text = redacted(
        f"plain <{secret}> quoted <{quote(secret, '')}> url https://me:{quote(secret, '')}@h.example.com", sources
    )
    assert f"<{secret}>" not in text
    assert f"<{quote(secret, '')}>" not in text
    assert "me:" not in text


def test_netrc_and_headers_are_redacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine h.example.com login me password netrc-pass\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    sources = PackageSources(indexes=("https://me:hunter2@h.example.com/simple",))
    assert redacted("netrc-pass, Basic bWU6aHVudGVyMg== and hunter2", sources) == "***, Basic *** and ***"
