"""The headers of safetensors files: what is in them, without reading a byte of the weights.

Format: 8 bytes little-endian header length, a JSON header with `dtype`, `shape` and `data_offsets` of each tensor, the
data (github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
import os
import reprlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_json

LARGEST_HEADER = 100_000_000  # bytes; what the safetensors library itself accepts
LARGEST_NUMBER = 2**63  # beyond any file
FIX = "copy the file again from its source"


@dataclass(frozen=True)
class Tensor:
    """A tensor of a checkpoint: its dtype as the header spells it (`BF16`), its shape, its size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_header(path: str) -> dict[str, Tensor]:
    """The tensors of one file by name.

    Raises:
        DeployError: it is no safetensors file, its header is damaged (the tensor is named), or the file is shorter or
            longer than the header says.
        OSError: it cannot be read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            raise DeployError(f"{path} is no safetensors file, or its header is truncated", FIX)
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError):
            raise DeployError(f"{path} has a damaged safetensors header: it is not JSON", FIX) from None
    if not isinstance(header, dict):
        raise DeployError(f"{path} has a damaged safetensors header: it is not a JSON object", FIX)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    tensors = {name: _tensor(path, name, entry) for name, entry in entries.items()}
    expected = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if expected != size:
        raise DeployError(f"{path} is {size} bytes long and its header says {expected}", FIX)
    return tensors


def _tensor(path: str, name: str, entry: Any) -> Tensor:
    where = f"{path} has a damaged safetensors header: tensor {name!r}"
    if not isinstance(entry, dict):
        raise DeployError(f"{where} is no JSON object", FIX)
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str):
        raise DeployError(f"{where}, dtype is {reprlib.repr(dtype)}", FIX)
    if not isinstance(shape, list) or not all(_is_count(number) for number in shape):
        raise DeployError(f"{where}, shape is {reprlib.repr(shape)}", FIX)
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(number) for number in offsets):
        raise DeployError(f"{where}, data_offsets is {reprlib.repr(offsets)}", FIX)
    if offsets[1] < offsets[0]:
        raise DeployError(f"{where}, data_offsets end before they begin: {offsets!r}", FIX)
    tensor = Tensor(dtype, tuple(shape), offsets[1] - offsets[0])
    if tensor.parameters > 8 * tensor.size:  # no dtype has less than a bit
        raise DeployError(f"{where}, shape {reprlib.repr(shape)} does not go into {tensor.size} bytes", FIX)
    return tensor


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_NUMBER


def indexed_shards(path: str) -> list[str]:
    """The file names that an index (`model.safetensors.index.json`) spreads its tensors over, sorted.

    Raises:
        DeployError: it is not JSON, or has no weight_map.
    """
    index = read_json(path)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise DeployError(f"{path} has no weight_map", "copy the index again from its source")
    return sorted(set(shards.values()))


def missing_shards(path: str, files: Mapping[str, str]) -> list[str]:
    """The shards that the index at `path` names and `files` lacks.

    Args:
        path: the index, as a key of `files`.
        files: path below the model's folder -> path to read.
    Raises:
        DeployError: as `indexed_shards`.
    """
    base = os.path.dirname(path)
    return [shard for shard in indexed_shards(files[path]) if os.path.join(base, shard) not in files]
