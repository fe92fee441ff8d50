"""A checkpoint to send: complete by the product's own rules, and random, so that nothing on the way can compress it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from tests.doubles.published_models import Tensors, llama, write_hollow

SHARDS = 4
BLOCK = 16 * 1024 * 1024  # bytes written at once
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 512,
    "intermediate_size": 1408,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 1,
    "num_key_value_heads": 8,
    "torch_dtype": "bfloat16",
    "vocab_size": 1024,
}


def write_checkpoint(folder: Path, size: int, shards: int = SHARDS) -> Path:
    """Write a model of the Llama family with as many layers as make up `size`.

    Args:
        folder: becomes the model folder; must not exist.
        size: bytes that its tensors take at least; a layer is 6 MB, so it is a little more.
        shards: number of safetensors files, of about equal size.
    Returns:
        `folder`.
    """
    folder.mkdir(parents=True)
    config = with_layers(size)
    parts = cut(llama(config), shards)
    files = {f"model-{number:05}-of-{len(parts):05}.safetensors": part for number, part in enumerate(parts, 1)}
    for name, part in files.items():
        write_hollow(folder / name, part)
        fill(folder / name, nbytes(part))
    index = {
        "metadata": {"total_size": sum(map(nbytes, parts))},
        "weight_map": {tensor: name for name, part in files.items() for tensor in part},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "tokenizer.json").write_text("{}\n")
    return folder


def with_layers(size: int) -> dict[str, Any]:
    """`CONFIG` with the fewest layers whose tensors take `size` bytes together."""
    one, two = (nbytes(llama({**CONFIG, "num_hidden_layers": layers})) for layers in (1, 2))
    return {**CONFIG, "num_hidden_layers": 1 + max(0, math.ceil((size - one) / (two - one)))}


def cut(tensors: Tensors, shards: int) -> list[Tensors]:
    """The tensors in `shards` files of about equal size, in the order given."""
    limit, filled = nbytes(tensors) / shards, 0
    parts: list[Tensors] = [{} for _ in range(shards)]
    for name, tensor in tensors.items():
        parts[min(int(filled / limit), shards - 1)][name] = tensor
        filled += tensor.nbytes
    return parts


def nbytes(tensors: Tensors) -> int:
    """Bytes of the tensors' data together."""
    return sum(tensor.nbytes for tensor in tensors.values())


def fill(path: Path, size: int) -> None:
    """Make the last `size` bytes of a file random."""
    with path.open("r+b") as stream:
        stream.seek(-size, os.SEEK_END)
        while size > 0:
            size -= stream.write(os.urandom(min(BLOCK, size)))


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())
