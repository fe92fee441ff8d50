"""How long a release may load: a pure count of seconds, and of lines that are new."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.cutover.deadline import (
    LONGEST,
    Deadline,
    first_timeout,
    weight_bytes,
)
from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named

SGLANG = engine_named("sglang").progress


def deadline(timeout: float = 600, progress_timeout: float = 300) -> Deadline:
    return Deadline(0, timeout, progress_timeout, SGLANG)


def test_a_silent_engine_is_given_up_at_the_first_deadline() -> None:
    one = deadline()
    one.feed(10, "")
    one.feed(500, "INFO: 127.0.0.1 - GET /health 503\nsome noise")
    assert not one.over(599.9)
    assert one.over(600)


def test_each_new_line_of_progress_grants_time_from_when_it_was_seen() -> None:
    one = deadline()
    one.feed(500, "Loading safetensors checkpoint shards:  25% Completed | 1/4")
    assert one.at == 800
    one.feed(790, "Loading safetensors checkpoint shards:  25% Completed | 1/4")
    assert one.at == 800
    one.feed(790, "Loading safetensors checkpoint shards:  25% Completed | 1/4\nLoad weight end. type=Qwen3")
    assert (one.at, one.last) == (1090, "Load weight end. type=Qwen3")


def test_early_progress_takes_nothing_away() -> None:
    one = deadline()
    one.feed(1, "Load weight begin. avail mem=70 GB")
    assert one.at == 600


def test_an_engine_that_loads_in_circles_ends_all_the_same() -> None:
    one = deadline(timeout=10)
    for now in range(0, 1000, 5):
        one.feed(now, f"Capturing batches (bs={now} avail_mem=3.1 GB)")
    assert one.at == 10 * LONGEST


def test_a_bar_that_is_drawn_over_itself_is_as_many_lines() -> None:
    one = deadline()
    one.feed(500, "Capturing batches:   4%|\rCapturing batches:   8%|")
    assert one.last == "Capturing batches:   8%|"


@pytest.mark.parametrize(
    ("engine", "line"),
    [
        ("sglang", "[2025-11-20 10:00:01 TP0] Load weight begin. avail mem=78.58 GB"),
        ("sglang", "Loading safetensors checkpoint shards:  25% Completed | 1/4 [00:01<00:03,  1.01s/it]"),
        ("sglang", "Multi-thread loading shards: 100% Completed | 17/17 [00:08<00:00,  2.00it/s]"),
        ("sglang", "[2025-11-20 10:00:09 TP1] KV Cache is allocated. #tokens: 400000"),
        ("sglang", "[2025-11-20 10:00:09 TP1] Memory pool end. avail mem=9.12 GB"),
        ("sglang", "[2025-11-20 10:00:09] Capture cuda graph begin. This can take up to several minutes."),
        ("sglang", "[2025-11-20 10:00:09] Capture target verify CUDA graph end. Time elapsed: 9.1 s."),
        ("sglang", "Capturing batches (bs=160 avail_mem=8.20 GB):   4%|"),
        ("sglang", "DeepGEMM warmup:  12%|█▎        | 2048/16384"),
        ("sglang", "Entering DeepGEMM JIT Pre-Compile session. It may take a long time"),
        ("llamafactory", "Loading checkpoint shards:  50%|█████     | 2/4"),
        ("llamafactory", "Loading weights:  50%|█████     | 200/400"),
        ("llamafactory", "[INFO|modeling_utils.py:1234] 2025-11-20 10:00:00 >> loading weights file /m/x.safetensors"),
    ],
)
def test_what_engines_log_on_their_way_is_progress(engine: str, line: str) -> None:
    one = Deadline(0, 100, 300, engine_named(engine).progress)
    one.feed(50, line)
    assert one.last == line


def test_an_engine_without_known_progress_has_the_first_deadline_alone() -> None:
    one = Deadline(0, 100, 300, ())
    one.feed(50, "Loading checkpoint shards: 50%")
    assert one.at == 100


def test_the_deadline_grows_with_the_bytes_of_weights(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "blob").write_bytes(b"x" * 1000)
    (tmp_path / "model-00001.safetensors").symlink_to("store/blob")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 10)
    (tmp_path / "tokenizer.json").write_bytes(b"x" * 5000)
    assert weight_bytes(str(tmp_path)) == 1010
    assert weight_bytes(str(tmp_path / "nowhere")) == weight_bytes("") == 0
    (tmp_path / "gone.safetensors").symlink_to("nowhere")
    assert weight_bytes(str(tmp_path)) == 0
    assert first_timeout(600, 0) == 600
    assert first_timeout(600, 140 * 10**9) == 2000


@given(
    looks=st.lists(st.tuples(st.floats(0, 1e5), st.sampled_from(["", "Load weight begin", "Load weight end", "x"]))),
    timeout=st.integers(1, 10000),
)
def test_a_deadline_never_comes_closer_and_has_an_end(looks: list[tuple[float, str]], timeout: int) -> None:
    one = Deadline(0, timeout, 300, SGLANG)
    for now, log in sorted(looks):
        before = one.at
        one.feed(now, log)
        assert before <= one.at <= LONGEST * timeout
