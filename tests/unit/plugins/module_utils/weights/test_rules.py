"""Rules: what training, downloads and tools leave is told from the model, and the user has the last word."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import left_out, list_files
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import (
    EVERYTHING,
    MODEL,
    NOT_THE_MODEL,
    model_rules,
    why,
)


def words(text: str) -> list[str]:
    return text.split()


# What engines read of published models, their licences and code included.
MODEL_FILES = words("""
    config.json generation_config.json configuration.json model.safetensors model-00001-of-00002.safetensors
    model.safetensors.index.json pytorch_model.bin pytorch_model-00001-of-00002.bin pytorch_model.bin.index.json
    consolidated.safetensors params.json tekken.json tokenizer.json tokenizer.model tokenizer_config.json vocab.json
    merges.txt vocab.txt spiece.model special_tokens_map.json added_tokens.json chat_template.jinja chat_template.json
    preprocessor_config.json video_preprocessor_config.json processor_config.json image_processing_x.py optimizer.py
    modeling_deepseek.py configuration_deepseek.py tokenization_kimi.py qwen.tiktoken adapter_model.safetensors
    adapter_config.json model.gguf README.md LICENSE USE_POLICY.md hf_quant_config.json quantize_config.json
    quant_config.json recipe.yaml 1_Pooling/config.json modules.json sub/manifest.json.py mtp.safetensors model.pt
""")
TRAINING = words("""
    checkpoint-500/model.safetensors tmp-checkpoint-500/x global_step500/mp_rank_00_model_states.pt latest
    zero_to_fp32.py bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt zero_pp_rank_0_mp_rank_00_model_states.pt
    pytorch_model_fsdp_0/__0_0.distcp pytorch_model_fsdp.bin optimizer_0/.metadata optimizer.pt optimizer.bin
    scheduler.pt scaler.pt rng_state.pth rng_state_3.pth random_states_0.pkl trainer_state.json training_args.bin
    training_args.yaml trainer_log.jsonl training_loss.png all_results.json eval_results.json train_results.json
    runs/Jan01_host/events.out.tfevents.1.host.2.0 events.out.tfevents.1 wandb/x llamaboard_config.yaml
    running_log.txt generated_predictions.jsonl iter_0000500/x latest_checkpointed_iteration.txt train.log
""")
DOWNLOADS = words("""
    .git/objects/ab/cd .gitattributes .gitignore .git/lfs/objects/x .cache/huggingface/download/x.metadata
    .cache/huggingface/download/x.lock x.incomplete ._____temp/model.safetensors .msc .mdl .mv model.safetensors.aria2
    model.safetensors.part x.tmp .DS_Store ._config.json .model.safetensors.Ab3dE9 config.json~ .config.json.swp
    __pycache__/x.pyc sub/__pycache__/x.pyc .ipynb_checkpoints/x manifest.json sub/optimizer.pt
""")


@pytest.mark.parametrize("path", MODEL_FILES)
def test_what_an_engine_reads_is_the_model(path: str) -> None:
    assert MODEL.reason(path) is None


@pytest.mark.parametrize("path", TRAINING + DOWNLOADS)
def test_what_training_and_downloads_leave_is_not(path: str) -> None:
    rule = MODEL.reason(path)
    assert rule in NOT_THE_MODEL
    assert why(str(rule)) != why("mine")


def test_everything_is_everything() -> None:
    assert [path for path in TRAINING + DOWNLOADS if EVERYTHING.reason(path)] == []


@pytest.mark.parametrize(
    ("pattern", "out", "kept"),
    [
        ("original", ["original", "original/x", "sub/original/x"], ["originals"]),
        ("original/", ["original/x"], ["originals/x"]),
        ("./original", ["original/x"], ["sub/original/x"]),
        ("/*.bin", ["a.bin"], ["sub/a.bin"]),
        ("sub/*.bin", ["sub/a.bin"], ["a.bin", "sub/sub/a.bin", "x/sub/a.bin"]),
        ("*.BIN", ["a.BIN"], ["a.bin"]),
        ("model-0000[12]*", ["model-00001-of-3.safetensors"], ["model-00003-of-3.safetensors"]),
    ],
)
def test_patterns_are_those_of_a_shell(pattern: str, out: list[str], kept: list[str]) -> None:
    rules = model_rules([pattern])
    (rule,) = {rules.reason(path) for path in out}
    assert rule == rules.exclude[-1] and why(rule) == "a rule of yours"
    assert [path for path in kept if rules.reason(path)] == []
    assert [path for path in out if model_rules([pattern], [pattern]).reason(path)] == []


def test_what_is_included_is_kept_and_its_content_is_looked_at_again() -> None:
    rules = model_rules(include=["checkpoint-500", "trainer_state.json"])
    assert rules.reason("checkpoint-500/model.safetensors") is None
    assert rules.reason("checkpoint-500/trainer_state.json") is None
    assert rules.reason("checkpoint-500/optimizer.pt") == "optimizer*.pt"
    assert rules.reason("checkpoint-600/model.safetensors") == "checkpoint-*"
    # What is in a folder that is left out stays left out.
    assert model_rules(include=["checkpoint-500/config.json"]).reason("checkpoint-500/config.json") == "checkpoint-*"


@pytest.mark.parametrize("exclude", [[], ["*.json"], ["/manifest.json"]])
def test_nothing_brings_in_the_deployments_own_file(exclude: list[str]) -> None:
    rules = model_rules(exclude, include=["manifest.json", "*"])
    assert rules.reason("manifest.json") is not None
    assert rules.reason("onnx/manifest.json") is None


@pytest.mark.parametrize("pattern", ["", "/", "./", "a//b", "../x", "a/../b", "a/./b", "."])
def test_a_pattern_that_could_match_nothing_is_refused(pattern: str) -> None:
    for given in ((pattern,), ()), ((), (pattern,)):
        with pytest.raises(DeployError, match="is no pattern"):
            model_rules(*given)


def test_a_folder_is_divided_into_model_and_the_rest(tmp_path: Path) -> None:
    for path in MODEL_FILES + TRAINING + DOWNLOADS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    assert sorted(list_files(str(tmp_path))) == sorted(MODEL_FILES)
    left = dict(left_out(str(tmp_path)))
    assert left[".git/"] == ".git*" and left["checkpoint-500/"] == "checkpoint-*" and left["sub/__pycache__/"]
    assert not any(path.startswith(".git/o") for path in left)  # the folder stands for what is in it
    assert set(left.values()) <= set(NOT_THE_MODEL)
    assert left_out(str(tmp_path), EVERYTHING) == []


def test_every_rule_is_documented() -> None:
    text = (Path(__file__).parents[5] / "docs" / "weights.md").read_text()
    assert [pattern for pattern in NOT_THE_MODEL if f"`{pattern}`" not in text] == []
