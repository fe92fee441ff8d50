"""What a model's folder says: every byte in its part, what is missing named, no file that ends in a traceback."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import list_files
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts, part_of, read_model
from ansible_collections.deployer.sglang.plugins.module_utils.safetensors import Tensor
from tests.doubles.published_models import CONFIGS, NAMES, TOTAL_SIZE

DEEPSEEK = "deepseek-ai/DeepSeek-V3"
VISION = "Qwen/Qwen2.5-VL-7B-Instruct"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 2,
}


def safetensors(*names: str, size: int = 4) -> bytes:
    """A file with one U8 tensor of `size` bytes under each name."""
    header = {
        name: {"dtype": "U8", "shape": [1, size], "data_offsets": [at * size, (at + 1) * size]}
        for at, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * size * len(names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model folder with everything that is read."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(safetensors("model.embed_tokens.weight", "model.layers.0.mlp.up.weight"))
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    (folder / "generation_config.json").write_text('{"temperature": 0.6}')
    return folder


def read(folder: Path) -> ModelFacts:
    return read_model(str(folder), list_files(str(folder)))


def headers(folder: Path) -> dict[str, Any]:
    """All entries of the folder's headers, read without the code that is under test."""
    entries: dict[str, Any] = {}
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as stream:
            entries |= json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
    del entries["__metadata__"]
    return entries


@pytest.mark.parametrize("name", NAMES)
def test_every_byte_of_a_published_checkpoint_is_in_a_part(
    published: dict[str, Path], published_facts: dict[str, ModelFacts], name: str
) -> None:
    facts = published_facts[name]
    size: Counter[str] = Counter()
    parameters: Counter[str] = Counter()
    for entry in headers(published[name]).values():
        start, end = entry["data_offsets"]
        size[entry["dtype"]] += end - start
        parameters[entry["dtype"]] += math.prod(entry["shape"])
    by_dtype: Counter[str] = Counter()
    for dtypes in facts.parts.values():
        by_dtype.update(dtypes)
    assert by_dtype == size
    assert facts.parameters == parameters
    assert sum(by_dtype.values()) == TOTAL_SIZE[name]
    files = [path.stat().st_size for path in published[name].iterdir()]
    shards = [path.stat().st_size for path in published[name].glob("*.safetensors")]
    assert (facts.weight_bytes, facts.size) == (sum(shards), sum(files))
    assert (facts.pickles, facts.problems) == ((), ())


# The dimensions are those of each config.json; 2 bytes a number.
@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("Qwen/Qwen3-14B", "embedding", {"BF16": 151_936 * 5120 * 2}),
        ("Qwen/Qwen3-14B", "head", {"BF16": 151_936 * 5120 * 2}),
        ("Qwen/Qwen3-14B", "sharded", {"BF16": 40 * 3 * 5120 * 17_408 * 2}),
        ("Qwen/Qwen3-14B", "attention", {"BF16": 40 * 2 * 5120 * 40 * 128 * 2}),
        ("Qwen/Qwen3-14B", "key_value", {"BF16": 40 * 2 * 5120 * 8 * 128 * 2}),
        ("Qwen/Qwen3-14B", "replicated", {"BF16": 40 * (2 * 5120 + 2 * 128) * 2}),  # two norms, and those of q and k
        ("Qwen/Qwen3-14B", "outside", {"BF16": 5120 * 2}),  # the last norm
        ("Qwen/Qwen3-30B-A3B", "sharded", {"BF16": 48 * 128 * 3 * 2048 * 768 * 2}),
        ("Qwen/Qwen3-30B-A3B", "replicated", {"BF16": 48 * (128 * 2048 + 2 * 2048 + 2 * 128) * 2}),  # routers, norms
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "replicated", {"BF16": 32 * (8 * 4096 + 2 * 4096) * 2}),
        ("meta-llama/Llama-3.1-70B-Instruct", "key_value", {"BF16": 80 * 2 * 8192 * 8 * 128 * 2}),
        # q, k and v have biases, which are too small to be worth a part: 28 and 2 x 4 heads of 128.
        (VISION, "replicated", {"BF16": 28 * (2 * 3584 + (28 + 2 * 4) * 128) * 2}),
        # Vision: 32 blocks of qkv, proj and a gated MLP 1280 -> 3420 and back, then the merger 4 x 1280 -> 3584; whole
        # on every GPU are the patches' convolution, the norms and all biases.
        (VISION, "vision", {"BF16": (32 * (4 * 1280**2 + 3 * 1280 * 3420) + 5120**2 + 5120 * 3584) * 2}),
        (
            VISION,
            "vision_replicated",
            {"BF16": (1280 * 3 * 2 * 14**2 + 32 * (2 * 1280 + 4 * 1280 + 2 * 3420 + 1280) + 1280 + 5120 + 3584) * 2},
        ),
        # Layer 61 is a MoE layer as the 58 before it, and has copies of embedding and head, and a projection.
        (
            DEEPSEEK,
            "draft",
            {
                "F8_E4M3": (1536 + 576) * 7168
                + 128 * 192 * 1536
                + 128 * 256 * 512
                + 7168 * 128 * 128
                + 257 * 3 * 2048 * 7168,
                "BF16": (2 * 129_280 * 7168 + 2 * 7168**2 + 256 * 7168 + 5 * 7168 + 1536 + 512) * 2,
                "F32": (
                    (12 + 5) * 56  # q_a_proj, kv_a_proj_with_mqa: 576 rows are 4.5 blocks
                    + 192 * 12  # q_b_proj
                    + 256 * 4  # kv_b_proj
                    + 56 * 128  # o_proj
                    + 257 * 3 * 16 * 56
                    + 256  # biases of the router
                )
                * 4,
            },
        ),
        (DEEPSEEK, "embedding", {"BF16": 129_280 * 7168 * 2}),
        (
            DEEPSEEK,
            "replicated",
            {
                "F8_E4M3": 61 * (1536 + 576) * 7168,  # the latent down-projections
                "BF16": (58 * 256 * 7168 + 61 * (2 * 7168 + 1536 + 512)) * 2,  # routers, norms
                "F32": (61 * (12 + 5) * 56 + 58 * 256) * 4,
            },
        ),
    ],
)
def test_a_part_has_exactly_the_bytes_that_the_dimensions_give(
    published_facts: dict[str, ModelFacts], name: str, part: str, expected: dict[str, int]
) -> None:
    assert published_facts[name].parts[part] == expected


def test_only_what_has_a_vision_or_draft_part_has_bytes_there(published_facts: dict[str, ModelFacts]) -> None:
    for part, name in (("vision", VISION), ("vision_replicated", VISION), ("draft", DEEPSEEK)):
        assert [other for other, facts in published_facts.items() if part in facts.parts] == [name]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("transformer.wte.weight", "embedding"),
        ("model.language_model.embed_tokens.weight", "embedding"),
        ("transformer.h.0.attn.c_attn.weight", "attention"),
        ("transformer.word_embeddings.weight", "embedding"),
        ("language_model.lm_head.weight", "head"),
        ("gpt_neox.layers.1.attention.dense.weight", "attention"),
        ("model.layers.1.self_attn.v_proj.weight", "key_value"),
        ("model.layers.1.mlp.gate_proj.weight", "sharded"),
        ("model.layers.1.mlp.gate.weight", "replicated"),
        ("model.layers.1.mlp.shared_expert_gate.weight", "replicated"),
        ("model.layers.1.self_attn.indexer.wk.weight", "replicated"),
        ("model.layers.2.mlp.up_proj.weight", "draft"),
        ("mtp.layers.0.mlp.up_proj.weight", "draft"),
        ("model.visual.blocks.7.attn.qkv.weight", "vision"),
        ("vision_tower.vision_model.encoder.layers.0.self_attn.k_proj.weight", "vision"),
        ("multi_modal_projector.linear_1.weight", "vision"),
        ("model.layers." + "9" * 5000 + ".mlp.up_proj.weight", "outside"),
        ("model.layers.\u0663.mlp.up_proj.weight", "outside"),
    ],
)
def test_a_matrix_of_a_model_of_two_layers_belongs_to_a_part(name: str, part: str) -> None:
    assert part_of(name, Tensor("BF16", (4, 4), 32), 2) == part


def test_a_norm_is_on_every_gpu_wherever_it_is() -> None:
    norm = Tensor("BF16", (4,), 8)
    assert part_of("model.layers.0.self_attn.k_norm.weight", norm, 2) == "replicated"
    assert part_of("visual.blocks.0.norm1.weight", norm, 2) == "vision_replicated"
    assert part_of("model.norm.weight", norm, 2) == "outside"


def test_shards_that_an_index_names_and_the_folder_lacks_are_problems(folder: Path) -> None:
    shards = ["model-00002.safetensors", "model.safetensors", "model-00001.safetensors"]
    weight_map = {str(at): shard for at, shard in enumerate(shards)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    facts = read(folder)
    missing = ("is missing", "copy it again from the model's source")
    assert facts.problems == tuple((str(folder / f"model-0000{at}.safetensors"), *missing) for at in (1, 2))
    assert facts.parts == {"embedding": {"U8": 4}, "sharded": {"U8": 4}}


def test_what_is_never_loaded_is_no_problem(folder: Path) -> None:
    (folder / "original").mkdir()
    index = json.dumps({"weight_map": {"w": "model-00001.safetensors"}})
    for name in ("original/model.safetensors.index.json", "consolidated.safetensors.index.json"):
        (folder / name).write_text(index)
    (folder / "consolidated.safetensors").write_bytes(b"cut")
    assert read(folder).problems == ()


def test_files_that_say_how_many_they_are_are_counted(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00002-of-00003.safetensors")
    missing = [str(folder / f"model-0000{number}-of-00003.safetensors") for number in (1, 3)]
    assert [file for file, what, _ in read(folder).problems if what == "is missing"] == missing


def test_the_index_of_pickles_counts_where_they_are_loaded(folder: Path) -> None:
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"w": "pytorch_model-1.bin"}}))
    assert read(folder).problems == ()
    (folder / "model.safetensors").rename(folder / "pytorch_model-2.bin")
    assert [Path(file).name for file, _, _ in read(folder).problems] == ["pytorch_model-1.bin"]


def test_damaged_files_are_problems_and_the_others_still_count(folder: Path) -> None:
    whole = safetensors("model.layers.1.mlp.up.weight")
    (folder / "cut.safetensors").write_bytes(whole[:-1])
    (folder / "page.safetensors").write_bytes(b"<!DOCTYPE html><title>Too Many Requests</title>")
    (folder / "model.safetensors.index.json").write_text("{}")
    facts = read(folder)
    problems = {Path(file).name: what for file, what, fix in facts.problems if fix}
    assert sorted(problems) == ["cut.safetensors", "model.safetensors.index.json", "page.safetensors"]
    assert f"is {len(whole) - 1} bytes long and its header says {len(whole)}" in problems["cut.safetensors"]
    assert "is no safetensors file" in problems["page.safetensors"]
    assert "has no weight_map" in problems["model.safetensors.index.json"]
    assert facts.parts == {"embedding": {"U8": 4}, "sharded": {"U8": 4}}


# filter_duplicate_safetensors_files of SGLang's model_loader/weight_utils.py: mistralai's repositories hold every
# tensor twice, and others another copy in a folder below.
@pytest.mark.parametrize("indexed", [True, False])
def test_a_second_copy_of_the_weights_is_not_loaded_and_does_not_count(folder: Path, indexed: bool) -> None:
    before = read(folder)
    if indexed:
        weight_map = {"model.embed_tokens.weight": "model.safetensors"}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "consolidated.safetensors").write_bytes(safetensors("tok_embeddings.weight", "layers.0.wo.weight"))
    (folder / "original").mkdir()
    (folder / "original" / "model.safetensors").write_bytes(safetensors("model.layers.0.mlp.up.weight"))
    after = read(folder)
    assert (after.parts, after.parameters) == (before.parts, before.parameters)
    assert after.problems == ()
    assert after.size > before.size


def test_a_consolidated_file_alone_counts(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert read(folder).parts == {"embedding": {"U8": 4}, "sharded": {"U8": 4}}


def test_pickles_are_named_only_where_they_would_be_loaded(folder: Path) -> None:
    for name in ("pytorch_model.bin", "a.pt", "b.pth", "c.ckpt"):
        (folder / name).write_bytes(b"12345")
    assert read(folder).pickles == ()
    (folder / "model.safetensors").unlink()
    facts = read(folder)
    assert set(facts.pickles) == {"pytorch_model.bin", "a.pt", "b.pth", "c.ckpt"}
    assert (facts.parts, facts.parameters, facts.weight_bytes, facts.problems) == ({}, {}, 20, ())
    (folder / "model.gguf").write_bytes(b"GGUF")
    assert (set(read(folder).pickles), read(folder).weight_bytes) == (set(facts.pickles), 24)
    for path in facts.pickles:
        (folder / path).unlink()
    assert ["GGUF" in what for _, what, _ in read(folder).problems] == [True]


def test_a_folder_without_a_tokenizer_says_so(folder: Path) -> None:
    assert not read(folder).tokenizer
    (folder / "tokenizer.json").write_text("{}")
    assert read(folder).tokenizer


def test_a_folder_without_weights_says_so(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    what = "holds no weights (none of *.safetensors, *.gguf, *.bin, *.pt, *.pth, *.ckpt)"
    assert read(folder).problems == ((str(folder), what, "copy the weights there"),)


@pytest.mark.parametrize(
    ("other", "fix"),
    [
        ("adapter_config.json", "it is a LoRA adapter: merge it into its base model first (llamafactory-cli export)"),
        ("params.json", "give the folder of a Hugging Face model"),
    ],
)
def test_a_folder_without_config_is_refused_with_what_it_is(folder: Path, other: str, fix: str) -> None:
    (folder / "config.json").rename(folder / other)
    with pytest.raises(DeployError) as caught:
        read(folder)
    assert (caught.value.problem, caught.value.fix) == (f"{folder} has no config.json", fix)


def test_the_chat_template_comes_from_its_own_file_before_the_processors_before_the_tokenizers(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("héllo", encoding="utf-8")
    (folder / "chat_template.json").write_text('{"chat_template": "processor"}')
    tokenizer = folder / "tokenizer_config.json"
    assert read(folder).chat_template == "héllo"
    (folder / "chat_template.jinja").unlink()
    assert read(folder).chat_template == "processor"
    (folder / "chat_template.json").unlink()
    assert read(folder).chat_template == "{{ messages }}"
    named = [7, {"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    tokenizer.write_text(json.dumps({"chat_template": named}))
    assert read(folder).chat_template == "plain"
    for nothing in (json.dumps({"chat_template": named[:2]}), '{"chat_template": null}', "{}", "[]"):
        tokenizer.write_text(nothing)
        assert read(folder).chat_template == ""
    tokenizer.unlink()
    assert read(folder).chat_template == ""


def test_sampling_is_what_generation_config_says_of_it_and_nothing_else(folder: Path) -> None:
    sampling = {"temperature": 0.6, "top_p": 1, "top_k": 20, "repetition_penalty": 1.05, "max_new_tokens": 2048}
    (folder / "generation_config.json").write_text(json.dumps({**sampling, "eos_token_id": 2, "do_sample": True}))
    assert read(folder).sampling == sampling
    (folder / "generation_config.json").write_text('{"temperature": "hot", "top_p": null}')
    assert read(folder).sampling == {}
    (folder / "generation_config.json").unlink()
    assert read(folder).sampling == {}


def test_published_sampling_and_templates_are_read(published_facts: dict[str, ModelFacts]) -> None:
    assert published_facts["Qwen/Qwen3-14B"].sampling == {"temperature": 0.6, "top_k": 20, "top_p": 0.95}
    assert published_facts[VISION].sampling == {"temperature": 1e-6, "repetition_penalty": 1.05}
    assert published_facts[DEEPSEEK].sampling == {}
    for name, facts in published_facts.items():
        tokenizer = json.loads((CONFIGS / name.rpartition("/")[2] / "tokenizer_config.json").read_text("utf-8"))
        assert facts.chat_template == tokenizer["chat_template"] != ""


TEXTS = ["config.json", "chat_template.jinja", "chat_template.json", "tokenizer_config.json", "generation_config.json"]


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_not_utf_8_is_refused_with_its_file(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b'{"chat_template": "\xff\xfe"}')
    with pytest.raises(DeployError, match=r"is not (valid JSON|UTF-8 text)") as caught:
        read(folder)
    assert str(folder / name) in caught.value.problem


def test_an_index_that_is_not_utf_8_is_a_problem(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_bytes(b'{"weight_map": "\xff"}')
    assert [file for file, _, _ in read(folder).problems] == [str(folder / "model.safetensors.index.json")]


@pytest.mark.parametrize("name", NAMES)
def test_facts_survive_json(published_facts: dict[str, ModelFacts], name: str) -> None:
    facts = published_facts[name]
    assert ModelFacts.from_dict(json.loads(json.dumps(facts.as_dict()))) == facts


def test_facts_with_pickles_and_problems_survive_json(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.bin")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-00001.safetensors"}}')
    facts = read(folder)
    assert facts.pickles and facts.problems
    value = json.loads(json.dumps(facts.as_dict()))
    assert ModelFacts.from_dict(value) == facts
    for wrong in ({**value, "unknown": 1}, {key: value[key] for key in value if key != "problems"}):
        with pytest.raises((KeyError, TypeError)):
            ModelFacts.from_dict(wrong)


@given(
    name=st.sampled_from([*TEXTS, "model.safetensors", "model.safetensors.index.json"]),
    content=st.binary(max_size=64)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["chat_template", "weight_map", "temperature", "name", "w"]), inner)
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode()),
)
def test_anything_in_any_file_gives_facts_or_a_refusal_with_the_file(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(safetensors("model.embed_tokens.weight"))
    (folder / name).write_bytes(content)
    try:
        facts = read(folder)
    except DeployError as error:
        assert name in TEXTS
        assert str(folder / name) in error.problem
        return
    assert all(what and fix for _, what, fix in facts.problems)
    text = json.dumps(facts.as_dict())
    assert json.dumps(ModelFacts.from_dict(json.loads(text)).as_dict()) == text
