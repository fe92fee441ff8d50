"""What is hidden, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.adoption.secrets import (
    secret_variables,
    shown_argv,
    shown_text,
)


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["x", "--api-key", "verysecret", "--port", "1"], ["x", "--api-key", "***", "--port", "1"]),
        (["x", "--api-key=verysecret"], ["x", "--api-key=***"]),
        (["x", "--hf-token", "verysecret"], ["x", "--hf-token", "***"]),
        (["sh", "-c", "API_KEY=verysecret run --api-key 'other'"], ["sh", "-c", "API_KEY=*** run --api-key ***"]),
        (["x", "--proxy", "http://me:verysecret@p:1/"], ["x", "--proxy", "http://***@p:1/"]),
        (["curl", "-H", "Authorization: Bearer verysecret"], ["curl", "-H", "Authorization: Bearer ***"]),
        (["x", "sk-abcdefghijklmnopqrstuv"], ["x", "***"]),
        (["x", "--api-key", "verysecret", "--and=verysecret"], ["x", "--api-key", "***", "--and=***"]),
        (["x", "--api-key", "one-secret", "two-secret", "--y"], ["x", "--api-key", "***", "***", "--y"]),
        (["x", "--api-key", "-secret", "-v"], ["x", "--api-key", "***", "-v"]),
        (["x", "--max-total-tokens", "8192", "--tokenizer-path", "/t"], None),
        (["python", "-m", "sglang.launch_server", "--model-path", "/m", "--trust-remote-code"], None),
        (["x", "--api-key"], None),
    ],
)
def test_secret_words_are_replaced_and_others_are_not(argv: list[str], shown: list[str] | None) -> None:
    assert shown_argv(argv) == (argv if shown is None else shown)


def test_what_we_advise_to_give_is_no_secret() -> None:
    advice = "Fix: -K, or --become-password-file FILE; or --vault-password-file FILE, or -J"
    assert shown_text(advice) == advice
    assert shown_text("x --api-key FILE --api-key-file hush-hush") == "x --api-key *** --api-key-file ***"


def test_variables_are_secret_by_name_by_form_and_by_what_others_hold() -> None:
    variables = {
        "API_KEY": "verysecret",
        "HF_TOKEN": "hf_abcdefghijklmnopqrst",
        "http_proxy": "http://me:pass@proxy:3128",
        "EXTRA": "--header verysecret",
        "INNOCENT": "sk-abcdefghijklmnopqrstuv",
        "PATH": "/bin",
        "PWD": "/home/mia/work",
        "OLDPWD": "/home/mia",
        "SSH_AUTH_SOCK": "/tmp/ssh/agent",
        "MAX_TOKENS": "8",
        "EMPTY_PASSWORD": "",
    }
    assert secret_variables(variables) == {"API_KEY", "HF_TOKEN", "http_proxy", "EXTRA", "INNOCENT"}


def test_a_path_to_a_secret_hides_itself_alone() -> None:
    assert secret_variables({"AWS_SECRET_FILE": "/home/mia", "HOME": "/home/mia"}) == {"AWS_SECRET_FILE"}


@given(
    st.lists(st.text(alphabet="ab -=", max_size=8), max_size=5), st.text(alphabet="0123456789", min_size=6, max_size=20)
)
def test_a_secret_never_shows(words: list[str], secret: str) -> None:
    argv = ["x", *words, "--api-key", secret, *words, f"again{secret}"]
    shown = shown_argv(argv)
    assert len(shown) == len(argv)
    assert secret not in " ".join(shown)
