"""What the real engines answered, a tiny model behind both: LLaMA-Factory 0.9.5 with --template qwen, SGLang 0.5.23."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Measurement
from deployer.compare.record import load_file

FOLDER = Path(__file__).parents[3] / "recordings" / "compare"


def llamafactory() -> Measurement:
    """The old server."""
    return load_file(FOLDER / "llamafactory.json")


def sglang() -> Measurement:
    """The new one."""
    return load_file(FOLDER / "sglang.json")
