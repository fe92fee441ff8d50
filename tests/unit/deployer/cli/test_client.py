"""What `client` says of the kits that it fetched."""

from __future__ import annotations

from deployer.api import Client, ClientKit, HostKits
from deployer.cli.client import client_json, client_lines

FOLDER = "my client/gpu1/code2sql"
FILES = {"test_sglang_api.py": "new", "sglang_usage_guide.md": "unchanged"}
KIT = ClientKit("code2sql", "r1", "sglang", FOLDER, FILES)
ADOPTED = ClientKit("old", "r0", "llamafactory", problem="release r0 was adopted", fix="roll out")


def lines(*kits: ClientKit, check: bool = False) -> list[str]:
    return [line for _, line in client_lines(Client({"gpu1": HostKits("gpu1", kits=kits)}), check)]


def test_a_line_says_what_became_of_a_kit_and_the_last_one_how_to_go_on() -> None:
    assert lines(ADOPTED, KIT) == [
        "gpu1 old: release r0 was adopted. Fix: roll out",
        f"gpu1 code2sql: {FOLDER}, release r1 of sglang, 1 of 2 files written",
        f"next: python3 '{FOLDER}'/test_sglang_api.py",
    ]
    assert lines(KIT, check=True) == [f"gpu1 code2sql: {FOLDER}, release r1 of sglang, 1 of 2 files would be written"]


def test_nothing_to_go_on_with_is_not_offered() -> None:
    assert lines(ADOPTED) == ["gpu1 old: release r0 was adopted. Fix: roll out"]


def test_json_has_states_and_no_texts() -> None:
    found = client_json(Client({"gpu1": HostKits("gpu1", kits=(KIT,), raw={"kits": ["all the texts"]})}))
    assert found["gpu1"]["failure"] == ""
    (kit,) = found["gpu1"]["kits"]  # type: ignore[misc]
    assert (kit["folder"], kit["files"]) == (FOLDER, FILES)
