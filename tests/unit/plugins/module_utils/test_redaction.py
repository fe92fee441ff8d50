"""What leaves a host without the secrets that it knows of."""

from __future__ import annotations

import json

from ansible_collections.deployer.sglang.plugins.module_utils.redaction import redacted, secrets_of


def release_with(folder, private) -> str:
    """A release's folder with this private.json."""
    (folder / "private.json").write_text(json.dumps(private))
    return str(folder)


def test_every_secret_of_a_release_is_hidden_wherever_it_stands(tmp_path):
    private = {
        "variables": {"HF_TOKEN": "hf_canary_1234"},
        "argv": {"5": "--api-key=canary-key-77", "9": "canary-word"},
    }
    secrets = secrets_of(release_with(tmp_path, private))

    text = redacted("api_key='canary-key-77' token hf_canary_1234, canary-word", secrets)

    assert text == "api_key='***' token ***, ***"


def test_a_secret_within_a_longer_one_leaves_no_rest(tmp_path):
    secrets = secrets_of(release_with(tmp_path, {"variables": {"A": "secret", "B": "secret-and-more"}, "argv": {}}))

    assert redacted("secret-and-more secret", secrets) == "*** ***"


def test_what_is_short_stands_everywhere_by_chance(tmp_path):
    assert secrets_of(release_with(tmp_path, {"variables": {"A": "1234"}, "argv": {}})) == []


def test_a_described_release_has_none(tmp_path):
    assert secrets_of(str(tmp_path)) == []
    (tmp_path / "private.json").write_text("{torn")
    assert secrets_of(str(tmp_path)) == []


def test_a_secret_of_several_lines_is_hidden_line_by_line(tmp_path):
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----"

    assert (
        redacted("it says MIIEvQIBADANBgkq", secrets_of(release_with(tmp_path, {"variables": {"K": key}})))
        == "it says ***"
    )
