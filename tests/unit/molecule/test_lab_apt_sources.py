"""The mirror is Debian's own archive among whatever else apt is configured with."""

from __future__ import annotations

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.apt_sources import debian_mirror

DEB822 = """\
# a comment
Types: deb
# http://snapshot.example/debian
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
THIRD_PARTY = """\
deb https://tools.example/apt tools-bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/x.gpg] https://containers.example/debian bookworm stable
deb-src http://sources.example/debian bookworm main
"""


def test_deb822_style() -> None:
    assert debian_mirror([THIRD_PARTY, DEB822], "bookworm") == "http://mirror.example/debian"


def test_one_line_style() -> None:
    line = "deb [arch=amd64] https://mirror.example/debian/ bookworm main contrib # inside\n"
    assert debian_mirror([THIRD_PARTY + line], "bookworm") == "https://mirror.example/debian/"


def test_a_disabled_source_does_not_count() -> None:
    assert debian_mirror([DEB822.replace("Types: deb\n", "Types: deb\nEnabled: no\n")], "bookworm") is None


def test_what_debootstrap_cannot_fetch_from_does_not_count() -> None:
    assert (
        debian_mirror(["deb cdrom:[Debian]/ bookworm main\n", "deb file:/srv/debian bookworm main\n"], "bookworm")
        is None
    )


def test_without_debian_there_is_no_mirror() -> None:
    assert debian_mirror([THIRD_PARTY], "bookworm") is None
    assert debian_mirror([], "bookworm") is None
