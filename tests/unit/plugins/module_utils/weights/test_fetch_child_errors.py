"""What no server of the tests beside this can bring about."""

from __future__ import annotations

import http.client
import shutil
import ssl
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child import attempts
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.attempts import patiently
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.fetch import fetch
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.huggingface import HuggingFace
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.libraries import explained
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.paths import inside
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import Problem, clean
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import (
    FETCH,
    RESOLVE,
    File,
    Listing,
    Order,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.web import unreachable
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.web_folder import WebFolder

TOKEN = "hf_ThisIsNoRealToken"


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = Order("huggingface", FETCH, "Org/Tiny", "main", folder=str(tmp_path))
    for error in (OSError(28, "No space left on device"), RuntimeError("Xet: No space left on device (os error 28)")):
        problem = explained(error, order, HuggingFace.access)
        assert problem.problem == f"the disk of {tmp_path} is full"
        assert "make room" in problem.fix
        assert not problem.passing
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    listing = Listing("c", (File("a", 2 * 2**30),))
    with pytest.raises(Problem, match=r"0\.0 GiB free, 2\.0 GiB are still to be fetched"):
        fetch(WebFolder(order), listing, Silent())  # type: ignore[arg-type]


class Silent:
    """Says nothing."""

    def start(self, listing: object) -> None: ...


def test_what_an_error_says_is_one_line_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYER_HTTP_AUTHORIZATION", f"Bearer {TOKEN}")
    said = f"GET https://me:pw@proxy.example/x?X-Amz-Signature=abc\n\x1b[31mBearer {TOKEN} and {TOKEN}"
    assert clean(said) == "GET https://…@proxy.example/x [31m… and …"


def test_attempts_are_counted_from_the_last_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0)
    asked: list[int] = []

    def work() -> str:
        asked.append(1)
        if len(asked) < 12:
            raise Problem("no", "again", passing=True)
        return "done"

    assert patiently(work, lambda: len(asked) // 3) == "done"
    asked.clear()
    with pytest.raises(Problem, match="no") as caught:
        patiently(work)
    assert len(asked) == attempts.ATTEMPTS
    assert not caught.value.passing  # whoever tries again around it would try this often again


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/sub").symlink_to("/etc")
    (tmp_path / "m/link").symlink_to("/etc/passwd")
    for path in ("sub/a", "link"):
        with pytest.raises(Problem, match="link"):
            inside(str(tmp_path / "m"), path)


def test_a_certificate_that_is_not_trusted_says_what_to_name() -> None:
    error = ssl.SSLCertVerificationError("self-signed certificate")
    assert "SSL_CERT_FILE" in unreachable(error, "https://server.example/x?y").fix
    assert "SSL_CERT_FILE" in explained(error, Order("huggingface", RESOLVE), HuggingFace.access).fix
    assert "SSL_CERT_FILE" not in unreachable(http.client.BadStatusLine("x"), "https://server.example/").fix
