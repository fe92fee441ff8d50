"""Writes a checkpoint of a published shape with random weights; the engine's Python runs it, as it has torch.

    PREFIX/bin/python -m tests.gpu_proof.checkpoint SHAPE FOLDER

The tokenizer is that of the demo's tiny model: a token a byte. Of the output head only the letters are not zero, so
that whatever is sampled is text.
"""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo import make_tiny_model

SHARD_BYTES = 4 * 2**30
# Dimensions of the published config.json of Qwen/Qwen3-0.6B, Qwen/Qwen3-8B and Qwen/Qwen3-14B; the last is for a try
# without a GPU.
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": {"hidden": 1024, "intermediate": 3072, "layers": 28, "heads": 16, "tied": True},
    "qwen3-8b": {"hidden": 4096, "intermediate": 12288, "layers": 36, "heads": 32, "tied": False},
    "qwen3-14b": {"hidden": 5120, "intermediate": 17408, "layers": 40, "heads": 40, "tied": False},
    "tiny": {"hidden": 128, "intermediate": 256, "layers": 2, "heads": 16, "tied": True},
}
KV_HEADS, HEAD, VOCABULARY, POSITIONS = 8, 128, 151_936, 40_960
SPREAD = 0.02  # initializer_range of the published configurations
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


def configuration(shape: dict[str, Any]) -> dict[str, Any]:
    """config.json of a shape."""
    return {
        **make_tiny_model.model_config(),
        "head_dim": HEAD,
        "hidden_size": shape["hidden"],
        "intermediate_size": shape["intermediate"],
        "max_position_embeddings": POSITIONS,
        "max_window_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "num_hidden_layers": shape["layers"],
        "num_key_value_heads": KV_HEADS,
        "rope_theta": 1_000_000,
        "tie_word_embeddings": shape["tied"],
        "vocab_size": VOCABULARY,
    }


def tensors(shape: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and dimensions of every tensor of the checkpoint, layer after layer."""
    hidden, intermediate = shape["hidden"], shape["intermediate"]
    yield EMBEDDING, (VOCABULARY, hidden)
    for number in range(shape["layers"]):
        inside = {
            "input_layernorm": (hidden,),
            "self_attn.q_proj": (shape["heads"] * HEAD, hidden),
            "self_attn.k_proj": (KV_HEADS * HEAD, hidden),
            "self_attn.v_proj": (KV_HEADS * HEAD, hidden),
            "self_attn.o_proj": (hidden, shape["heads"] * HEAD),
            "self_attn.q_norm": (HEAD,),
            "self_attn.k_norm": (HEAD,),
            "post_attention_layernorm": (hidden,),
            "mlp.gate_proj": (intermediate, hidden),
            "mlp.up_proj": (intermediate, hidden),
            "mlp.down_proj": (hidden, intermediate),
        }
        for name, dimensions in inside.items():
            yield f"model.layers.{number}.{name}.weight", dimensions
    yield "model.norm.weight", (hidden,)
    if not shape["tied"]:
        yield OUTPUT, (VOCABULARY, hidden)


def shards(wanted: list[tuple[str, tuple[int, ...]]], most: int = SHARD_BYTES) -> list[list[str]]:
    """Names of the tensors of each file: in order, no file larger than `most`, unless one tensor alone is."""
    files: list[list[str]] = [[]]
    size = 0
    for name, dimensions in wanted:
        nbytes = 2
        for length in dimensions:
            nbytes *= length
        if files[-1] and size + nbytes > most:
            files.append([])
            size = 0
        files[-1].append(name)
        size += nbytes
    return files


def letter_tokens() -> list[int]:
    """Ids of the letters in the tiny tokenizer."""
    vocabulary = make_tiny_model.tokenizer()["model"]["vocab"]
    return [vocabulary[letter] for letter in string.ascii_letters]


def write_checkpoint(shape: dict[str, Any], folder: Path, seed: int = 0) -> None:
    """Write the checkpoint into `folder`, which is made when missing."""
    import torch
    from safetensors.torch import save_file

    make_tiny_model.make_tiny_model(folder, seed)
    (folder / "model.safetensors").unlink()
    (folder / "config.json").write_text(json.dumps(configuration(shape), indent=2) + "\n", encoding="utf-8")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    head = EMBEDDING if shape["tied"] else OUTPUT

    def values(name: str, dimensions: tuple[int, ...]) -> Any:
        if len(dimensions) == 1:
            return torch.ones(dimensions, dtype=torch.bfloat16)
        made = torch.randn(dimensions, generator=generator, device=device, dtype=torch.float32) * SPREAD
        if name == head:
            letters = made[letter_tokens()] / SPREAD
            made.zero_()
            made[letter_tokens()] = letters
        return made.to(torch.bfloat16).cpu()

    wanted = dict(tensors(shape))
    files = shards(list(wanted.items()))
    index: dict[str, str] = {}
    for number, names in enumerate(files, 1):
        file = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        save_file({name: values(name, wanted[name]) for name in names}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(names, file)
    total = sum((folder / file).stat().st_size for file in set(index.values()))
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2) + "\n"
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    write_checkpoint(SHAPES[sys.argv[1]], Path(sys.argv[2]))
