"""What a model's folder says of the model, without loading it: its shape, its weights, how it wants to be talked to."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.allocations import Allocation, allocations_of
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_json, read_text
from ansible_collections.deployer.sglang.plugins.module_utils.model_config import Latent, ModelConfig, parse_config
from ansible_collections.deployer.sglang.plugins.module_utils.safetensors import (
    Tensor,
    indexed_shards,
    missing_shards,
    read_header,
)

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
WEIGHTS = (".safetensors", ".gguf", *PICKLES)
INDEX, CONSOLIDATED = "model.safetensors.index.json", "consolidated.safetensors"
PICKLE_INDEX = "pytorch_model.bin.index.json"
COPY = "copy it again from the model's source"
# One of these, by name or ending, is in the folder of every model that has a tokenizer; GGUF files bring their own.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
TOKENIZER_ENDINGS = (".tiktoken", ".gguf", "tokenizer.model.v3")
SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens")

# Parts of the weights that tensor parallelism treats differently (see plan/memory.py).
EMBEDDING, HEAD = "embedding", "head"
SHARDED, ATTENTION, KEY_VALUE, REPLICATED = "sharded", "attention", "key_value", "replicated"
OUTSIDE, VISION, VISION_REPLICATED, DRAFT = "outside", "vision", "vision_replicated", "draft"

_SERIES = re.compile(r"([^/]*)-(\d{3,5})-of-(\d{3,5})(\.(?:safetensors|bin))")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.([0-9]{1,9})\.")
_VISION = re.compile(r"(?:^|\.)(?:visual|vision_tower|vision_model|vision_encoder|vpm|multi_modal_projector|mlp1)\.")
_DRAFT = re.compile(r"(?:^|\.)(?:mtp|nextn|eagle)\.")
_EMBEDDING = re.compile(r"(?:embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output)\.weight$")
_KEY_VALUE = re.compile(r"\.(?:k_proj|v_proj|key|value)\.")
_ATTENTION = re.compile(r"\.(?:self_attn|self_attention|attention|attn)\.")
# On every GPU whole: routers, the latent down-projections of MLA, the sparse index of DeepSeek-V3.2.
_WHOLE = re.compile(
    r"(?:mlp|block_sparse_moe|moe|feed_forward)\.(?:gate|router|shared_expert_gate)\.(?:weight|e_score_correction_bias)"
    r"|\.(?:q_a_proj|kv_a_proj_with_mqa|indexer|patch_embed)\."
)


@dataclass(frozen=True)
class ModelFacts:
    """A model's folder.

    Attributes:
        path: the folder.
        config: the model's shape.
        parts: part of the weights -> dtype -> bytes, from the headers of the safetensors files that are loaded; empty
            where there are none.
        parameters: dtype -> number of elements of these.
        weight_bytes: size of the weight files, of whatever format.
        size: bytes of all files that belong to the model.
        pickles: weight files that can hold code, and that would be loaded: no safetensors are there.
        tokenizer: whether the folder brings a tokenizer.
        chat_template: the checkpoint's own; '' where it has none.
        sampling: what generation_config.json says of sampling.
        problems: what is missing or damaged, each as (file, what, fix).
        allocations: the same tensors as SGLang allocates them; empty where that is not known.
    """

    path: str
    config: ModelConfig
    parts: Mapping[str, Mapping[str, int]]
    parameters: Mapping[str, int]
    weight_bytes: int
    size: int
    pickles: tuple[str, ...] = ()
    tokenizer: bool = True
    chat_template: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[tuple[str, str, str], ...] = ()
    allocations: tuple[Allocation, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON holds them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ModelFacts:
        """The facts that `as_dict` gave.

        Raises:
            KeyError, TypeError: a field is missing or unknown.
        """
        config = dict(value["config"])
        config["latent"] = Latent(**config["latent"]) if config["latent"] else None
        rest = {**value, "config": ModelConfig(**config), "pickles": tuple(value["pickles"])}
        rest["allocations"] = tuple(map(Allocation.from_dict, value["allocations"]))
        return cls(**{**rest, "problems": tuple((a, b, c) for a, b, c in value["problems"])})


def read_model(folder: str, files: Mapping[str, str]) -> ModelFacts:
    """The facts of a model.

    Args:
        folder: the model's folder, for messages.
        files: path below the folder -> path to read (`manifest.list_files`).
    Raises:
        DeployError: config.json is missing or is not what it must be, naming the file and the field.
        OSError: a file cannot be read.
    """
    if "config.json" not in files:
        raise DeployError(f"{folder} has no config.json", missing_config_fix(files))
    config = parse_config(_json(files["config.json"]), os.path.join(folder, "config.json"))
    tensors, problems = read_weights(folder, files)
    parts: dict[str, Counter[str]] = {}
    parameters: Counter[str] = Counter()
    for name, tensor in tensors.items():
        parts.setdefault(part_of(name, tensor, config.layers), Counter())[tensor.dtype] += tensor.size
        parameters[tensor.dtype] += tensor.parameters
    weights = [path for path in files if path.endswith(WEIGHTS)]
    return ModelFacts(
        path=folder,
        config=config,
        parts={name: dict(sizes) for name, sizes in parts.items()},
        parameters=dict(parameters),
        weight_bytes=sum(os.path.getsize(files[path]) for path in weights),
        size=sum(os.path.getsize(real) for real in files.values()),
        pickles=() if tensors else tuple(path for path in weights if path.endswith(PICKLES)),
        tokenizer=any(path in TOKENIZERS or path.endswith(TOKENIZER_ENDINGS) for path in files),
        chat_template=_chat_template(files),
        sampling=_sampling(files),
        problems=tuple(problems),
        allocations=allocations_of(tensors, lambda name, tensor: part_of(name, tensor, config.layers)),
    )


def read_weights(folder: str, files: Mapping[str, str]) -> tuple[dict[str, Tensor], list[tuple[str, str, str]]]:
    """The tensors that an engine would load, by name, and what is missing or damaged, each as (file, what, fix).

    Pickles are not opened: of those only the index is read.

    Args:
        folder: the model's folder, for messages.
        files: path below the folder -> path to read.
    """
    tensors: dict[str, Tensor] = {}
    problems: list[tuple[str, str, str]] = []
    weights = [path for path in files if path.endswith(WEIGHTS)]
    if not weights:
        problems.append((folder, f"holds no weights (none of *{', *'.join(WEIGHTS)})", "copy the weights there"))
    elif all(path.endswith(".gguf") for path in weights):
        problems.append(
            (folder, "holds GGUF files alone, and engines get a folder", "give the safetensors of the model")
        )
    loaded = _loaded(files)
    for index in (INDEX, PICKLE_INDEX):
        if index not in files or (index == PICKLE_INDEX and loaded):
            continue
        try:
            problems += [(os.path.join(folder, shard), "is missing", COPY) for shard in missing_shards(index, files)]
        except DeployError as error:
            problems.append((os.path.join(folder, index), error.problem, COPY))
    for path in sorted(loaded & files.keys()):
        try:
            tensors.update(read_header(files[path]))
        except DeployError as error:
            problems.append((os.path.join(folder, path), error.problem, error.fix))
    if INDEX not in files and PICKLE_INDEX not in files:
        problems += [(os.path.join(folder, shard), "is missing", COPY) for shard in _missing_of_a_series(weights)]
    return tensors, problems


def _loaded(files: Mapping[str, str]) -> set[str]:
    """The safetensors files that are loaded: a folder may hold more, such as Mistral's second copy of all tensors.

    Source: `filter_duplicate_safetensors_files` of SGLang's model_loader/weight_utils.py.
    """
    if INDEX in files:
        with contextlib.suppress(DeployError):  # a damaged index is named where it is read for its missing shards
            return set(indexed_shards(files[INDEX]))
    top = {path for path in files if path.endswith(".safetensors") and os.path.dirname(path) == ""}
    return top - {CONSOLIDATED} or top


def _missing_of_a_series(weights: Sequence[str]) -> list[str]:
    """Of files that say how many they are (`model-00001-of-00004.safetensors`), those that are not there."""
    matches = [match for path in weights if (match := _SERIES.fullmatch(path))]
    series = {(match.group(1), match.group(3), match.group(4)) for match in matches}
    return [
        name
        for prefix, total, ending in sorted(series)
        for number in range(1, int(total) + 1)
        if (name := f"{prefix}-{number:0{len(total)}}-of-{total}{ending}") not in weights
    ]


def missing_config_fix(files: Mapping[str, str]) -> str:
    """What to do about a folder without config.json."""
    if "adapter_config.json" in files:
        return "it is a LoRA adapter: merge it into its base model first (llamafactory-cli export)"
    return "give the folder of a Hugging Face model"


def part_of(name: str, tensor: Tensor, layers: int) -> str:
    """Which part of the weights a tensor belongs to.

    Args:
        name: as the checkpoint calls it.
        tensor: its header entry.
        layers: decoder layers of the model; a layer beyond them is a draft (multi-token prediction) layer.
    """
    flat = len(tensor.shape) < 2  # norms, biases, scales: some are sharded, all are small
    if _VISION.search(name):
        return VISION_REPLICATED if flat or _WHOLE.search(name) else VISION
    layer = _LAYER.search(name)
    if _DRAFT.search(name) or (layer and int(layer.group(1)) >= layers):
        return DRAFT
    if not layer:
        return EMBEDDING if _EMBEDDING.search(name) else HEAD if _HEAD.search(name) else OUTSIDE
    if flat or _WHOLE.search(name):
        return REPLICATED
    return KEY_VALUE if _KEY_VALUE.search(name) else ATTENTION if _ATTENTION.search(name) else SHARDED


def _chat_template(files: Mapping[str, str]) -> str:
    """The template that a chat is rendered with: a file of its own, or a field of tokenizer_config.json."""
    if "chat_template.jinja" in files:
        return _text(files["chat_template.jinja"])
    for name in ("chat_template.json", "tokenizer_config.json"):
        value = _object(files, name).get("chat_template")
        if isinstance(value, list):  # several by name
            named = [one for one in value if isinstance(one, Mapping)]
            value = next((one.get("template") for one in named if one.get("name") == "default"), None)
        if isinstance(value, str):
            return value
    return ""


def _sampling(files: Mapping[str, str]) -> dict[str, Any]:
    value = _object(files, "generation_config.json")
    return {key: value[key] for key in SAMPLING if isinstance(value.get(key), (int, float))}


def _object(files: Mapping[str, str], name: str) -> Mapping[str, Any]:
    value = _json(files[name]) if name in files else None
    return value if isinstance(value, Mapping) else {}


def _text(path: str) -> str:
    try:
        return read_text(path) or ""
    except UnicodeDecodeError:
        raise DeployError(f"{path} is not UTF-8 text", COPY) from None


def _json(path: str) -> Any:
    try:
        return read_json(path)
    except DeployError as error:
        raise DeployError(error.problem, COPY) from None
