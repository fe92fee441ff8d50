from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from deployer.plan_view import print_lines
from deployer.verify_view import verify_lines

SOUND: dict[str, Any] = {
    "path": "/opt/inference/artifacts/environments/sglang-0123456789ab",
    "name": "sglang",
    "digest": "0" * 64,
    "built": True,
    "files": 49839,
    "differences": [],
    "count": 0,
    "problem": "",
    "fix": "",
    "sound": True,
}


def text_of(*environments: dict[str, Any], failures: dict[str, str] | None = None, deep: bool = True) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    found = {"gpu1": {"environments": list(environments)}}
    print_lines(console, verify_lines(found, failures or {}, deep))
    return console.export_text()


def test_what_is_sound_is_a_row(tmp_path: object) -> None:
    text = text_of(SOUND)
    assert "49,839" in text and "as built" in text
    assert text.rstrip().endswith("1 environment on 1 host hashed; as they were")


def test_what_differs_is_named_with_the_way_out() -> None:
    changed = {
        **SOUND,
        "sound": False,
        "count": 9,
        "differences": [f"bin/tool{number} was added" for number in range(9)],
        "fix": "build it again",
    }
    text = text_of(changed)
    assert "9 differences" in text and "bin/tool4 was added" in text and "bin/tool5" not in text
    assert "… and 4 more" in text and "fix: build it again" in text
    assert "1 not as it was" in text


def test_what_cannot_be_used_or_asked_is_said() -> None:
    broken = {**SOUND, "sound": False, "problem": "bin/python does not run", "fix": "build it again", "built": False}
    text = text_of(broken, failures={"gpu2": "Permission denied"}, deep=False)
    assert "unusable" in text and "bin/python does not run" in text
    assert "gpu2 could not be asked: Permission denied" in text
    assert "--deep hashes every file" in text
