"""What is kept of nvidia-smi names no machine and is read as before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.nvidia_smi import parse_query
from tests.doubles import nvidia_smi
from tests.gpu_proof.recordings import INVENTED, anonymous, without_names

CLOCKS = "".join(f"<supported_graphics_clock>{mhz} MHz</supported_graphics_clock>\n" for mhz in range(1980, 300, -15))


def document() -> str:
    """Two GPUs, with clocks and numbers as a driver prints them."""
    said = nvidia_smi.host("NVIDIA H200", 2, 143771, processes=[nvidia_smi.Process(1, 50, 1000)])
    for tag in ("serial", "pdi", "board_id"):
        said = said.replace(f"<{tag}>{INVENTED[tag]}</{tag}>", f"<{tag}>0x77secret</{tag}>")
    start, end = said.index("<supported_mem_clock>"), said.index("</supported_clocks>")
    block = f"<supported_mem_clock>\n<value>3201 MHz</value>\n{CLOCKS}</supported_mem_clock>\n"
    return said[:start] + block + block.replace("3201", "405") + said[end:]


def test_no_number_of_a_machine_is_kept_and_all_else_is() -> None:
    said = document()
    kept = anonymous(said)

    assert "secret" not in kept
    assert not any(nvidia_smi.uuid_of("host", index) in kept for index in range(2))
    before, after = parse_query(said), parse_query(kept)
    assert len({gpu.uuid for gpu in after.gpus}) == 2
    assert [replace(gpu, uuid="") for gpu in after.gpus] == [replace(gpu, uuid="") for gpu in before.gpus]
    assert anonymous(kept) == kept


def test_of_the_clocks_the_first_two_are_kept() -> None:
    kept = anonymous(document())
    first = kept[: kept.index("</gpu>")]
    assert first.count("<supported_graphics_clock>") == 2
    assert "<value>3201 MHz</value>" in first
    assert "<value>405 MHz</value>" not in first


@pytest.mark.parametrize("recording", ["h200-driver580-idle", "h200-driver580-sglang", "h200-driver580-stopped"])
def test_what_is_recorded_here_is_anonymous(recording: str) -> None:
    said = (nvidia_smi.RECORDINGS / f"{recording}.xml").read_text()
    assert anonymous(said) == said


def test_the_longest_name_is_replaced_first() -> None:
    text = without_names("/a/b/c on host, /a/b", {"/a/b": "X", "/a/b/c": "Y", "host": "gpu1", "": "never"})
    assert text == "Y on gpu1, X"
