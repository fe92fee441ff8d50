from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from deployer.views.plan import print_lines
from deployer.views.verify import verify_lines

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


MODEL: dict[str, Any] = {
    "name": "qwen3",
    "digest": "0" * 64,
    "path": "/opt/inference/artifacts/models/qwen3-0123456789ab",
    "ok": True,
    "problems": [],
    "count": 0,
    "fix": "",
    "files": 1012,
    "bytes": 29_500_000_000,
    "seconds": 12.4,
}


def text_of(
    *environments: dict[str, Any],
    models: list[dict[str, Any]] | None = None,
    failures: dict[str, str] | None = None,
    deep: bool = True,
) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    found = {"gpu1": {"environments": list(environments)}}
    print_lines(console, verify_lines(found, {"gpu1": {"models": models or []}}, failures or {}, deep))
    return console.export_text()


def test_what_is_sound_is_a_row(tmp_path: object) -> None:
    text = text_of(SOUND)
    assert "49,839" in text and "as built" in text
    assert text.rstrip().endswith("1 environment and 0 models on 1 host hashed; as they were")


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


def test_a_model_is_a_row_as_well() -> None:
    text = text_of(SOUND, models=[MODEL])
    assert "1,012" in text and "29.5 GB" in text and "hashed in 12 s" in text
    assert text.rstrip().endswith("1 environment and 1 model on 1 host hashed; as they were")
    assert "size and time as verified" in " ".join(text_of(models=[MODEL], deep=False).split())
    assert "there is nothing to verify" in text_of()


def test_what_is_wrong_with_a_model_is_named_with_both_values_and_the_way_out() -> None:
    problems = [{"file": f"{number}.safetensors", "wanted": "sha256 a", "got": "sha256 b"} for number in range(5)]
    added = {"file": "new\x1b[2J", "wanted": "", "got": "a file that is not in the manifest"}
    broken = {**MODEL, "ok": False, "count": 60, "problems": [added, *problems], "fix": "roll out again"}
    text = " ".join(text_of(SOUND, models=[broken]).split())
    assert "60 problems" in text and "fix: roll out again" in text and "1 not as it was" in text
    assert "new?[2J: a file that is not in the manifest" in text
    assert "3.safetensors: wanted sha256 a, got sha256 b" in text and "4.safetensors" not in text
    assert "… and 55 more" in text
