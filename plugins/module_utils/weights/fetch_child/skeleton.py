"""The skeleton of a model: small files in full, of safetensors files the header, of all others the size."""

from __future__ import annotations

import os

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.attempts import at_once
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.paths import inside
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import Problem
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.progress import Reporter
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import (
    File,
    Listing,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.source import Source

# However large they are.
IN_FULL = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.json",
    "chat_template.jinja",
)
SMALL = 1024 * 1024
FIRST_READ = 256 * 1024  # most headers of safetensors files end within
LARGEST_HEADER = 100_000_000  # as module_utils/safetensors.py


def write_skeleton(source: Source, listing: Listing, reporter: Reporter) -> None:
    """Files of the names and sizes of the model's, with as much in them as says what the model is."""
    done: list[int] = []
    reporter.measure = lambda: (sum(done), len(done))
    reporter.start(listing)

    def write(file: File) -> None:
        target = inside(source.order.folder, file.path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        name = os.path.basename(file.path)
        content = b""
        if file.size <= SMALL or name in IN_FULL or name.endswith(".index.json"):
            content = source.web.read(source.address(file, listing), file.size, whole=True) if file.size else b""
            if len(content) != file.size:
                raise Problem(f"{file.path} of {source.order.name} is not {file.size} bytes long", "run it again")
        elif name.endswith(".safetensors"):
            content = read_header(source, source.address(file, listing), file.size)
        with open(target, "wb") as stream:
            stream.write(content)
            stream.truncate(file.size)
        done.append(len(content))

    at_once(write, listing.files)


def read_header(source: Source, url: str, size: int) -> bytes:
    """The header of a safetensors file with the length before it; its beginning where that cannot be one."""
    start = source.web.read(url, min(FIRST_READ, size))
    end = 8 + int.from_bytes(start[:8], "little")
    if end <= len(start) or end > min(size, LARGEST_HEADER):
        return start[: max(end, 8)]
    return source.web.read(url, end)
