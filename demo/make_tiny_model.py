"""Write a tiny random-weights Qwen3 that both engines load: `python make_tiny_model.py FOLDER [SEED]`.

Standard library only: a Hugging Face checkpoint is four JSON files and a safetensors file, whose format is a length, a
JSON header and the raw tensors (https://huggingface.co/docs/safetensors). So no environment is built to make a model.
The same seed gives the same bytes on every machine.
"""

from __future__ import annotations

import json
import math
import random
import struct
import sys
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TEXT, _, END_OF_MESSAGE = range(3)
VOCABULARY = 320  # 3 special tokens and 256 bytes, rounded up to a multiple of 64
HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD, CONTEXT = 64, 128, 2, 4, 2, 32, 2048

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny_model(folder: Path, seed: int = 0) -> None:
    """Write the checkpoint into `folder`, which is made when missing; every file is readable by all.

    Args:
        folder: where config.json, generation_config.json, model.safetensors and the tokenizer go.
        seed: another seed, other weights; all else is equal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    texts = {
        "config.json": model_config(),
        "generation_config.json": {"bos_token_id": END_OF_TEXT, "eos_token_id": END_OF_MESSAGE, "pad_token_id": 0},
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": SPECIAL_TOKENS[END_OF_MESSAGE],
            "pad_token": SPECIAL_TOKENS[END_OF_TEXT],
            "model_max_length": CONTEXT,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    }
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(safetensors(weights(seed)))
    for path in folder.iterdir():
        path.chmod(0o644)


def model_config() -> dict[str, Any]:
    """config.json of the model."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": END_OF_TEXT,
        "eos_token_id": END_OF_MESSAGE,
        "pad_token_id": END_OF_TEXT,
        "head_dim": HEAD,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": CONTEXT,
        "max_window_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": VOCABULARY,
    }


def tokenizer() -> dict[str, Any]:
    """tokenizer.json: byte-level BPE without merges, a token per byte."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": token, **flags} for token, number in special.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": special | {char: len(special) + byte for byte, char in enumerate(byte_alphabet())},
            "merges": [],
        },
    }


def byte_alphabet() -> list[str]:
    """The printable character that stands for each byte in byte-level BPE (GPT-2's `bytes_to_unicode`)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    shifted = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(shifted)) for byte in range(256)]


def weights(seed: int) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """Shape and bfloat16 content of each tensor by its name in the checkpoint."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        inside = {
            "input_layernorm": (HIDDEN,),
            "self_attn.q_proj": (HEADS * HEAD, HIDDEN),
            "self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
            "self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
            "self_attn.q_norm": (HEAD,),
            "self_attn.k_norm": (HEAD,),
            "post_attention_layernorm": (HIDDEN,),
            "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
            "mlp.up_proj": (INTERMEDIATE, HIDDEN),
            "mlp.down_proj": (HIDDEN, INTERMEDIATE),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in inside.items()}
    shapes |= {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}
    return {name: (shape, bfloat16(tensor(name, shape, seed))) for name, shape in shapes.items()}


def tensor(name: str, shape: tuple[int, ...], seed: int) -> list[float]:
    """The values of one tensor, row by row."""
    if "norm" in name:
        return [1.0] * math.prod(shape)
    # A string seeds the same way in every version and process.
    source = random.Random(f"{seed} {name}")
    if name == "lm_head.weight":
        # Only printable ASCII has a logit other than 0: answers are readable, and as long as they were asked to be.
        first = len(SPECIAL_TOKENS)
        readable = range(first + ord(" "), first + ord("~") + 1)
        return [source.gauss(0, 1) if row in readable else 0.0 for row in range(shape[0]) for _ in range(shape[1])]
    return [source.gauss(0, 0.2) for _ in range(math.prod(shape))]


def bfloat16(values: list[float]) -> bytes:
    """The upper half of each value's float32, little endian."""
    packed = struct.pack(f"<{len(values)}f", *values)
    return b"".join(packed[start + 2 : start + 4] for start in range(0, len(packed), 4))


def safetensors(tensors: dict[str, tuple[tuple[int, ...], bytes]]) -> bytes:
    """A safetensors file's content."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, content) in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + len(content)]}
        end += len(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(content for _, content in tensors.values())


if __name__ == "__main__":
    make_tiny_model(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
