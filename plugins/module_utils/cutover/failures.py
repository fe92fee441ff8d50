"""Why a release did not pass its gate: told from what the gate saw, how the process ended, and its log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

OUT_OF_MEMORY = "out-of-memory"  # of a GPU or of the host
PORT = "port"  # somebody else has it
FLAG = "flag"  # the engine does not take its options
WEIGHTS = "weights"  # missing, damaged, or of another model
CUDA = "cuda"  # driver, device or kernels
NCCL = "nccl"  # GPUs do not reach each other
TIMEOUT = "timeout"  # alive, and not ready in time
IDENTITY = "identity"  # something answers that is not what was promised
GENERATION = "generation"  # ready, and does not generate what it has to
PARITY = "parity"  # answers otherwise than what served before
LOAD = "load"  # slower under load than is allowed, or more of its requests fail
CRASH = "crash"  # ended for another reason
OTHER = "other"  # no failure of the release: a full disk, a supervisor that refuses
KINDS = (OUT_OF_MEMORY, PORT, FLAG, WEIGHTS, CUDA, NCCL, TIMEOUT, IDENTITY, GENERATION, PARITY, LOAD, CRASH, OTHER)

LONGEST_LINE = 300  # characters
LONGEST_READ = 4000  # characters of a line that are looked at
EVIDENCE_LINES = 3


@dataclass(frozen=True)
class Failure:
    """A failure's kind, one of KINDS, and the lines of the log that prove it, oldest first."""

    kind: str
    evidence: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The failure as JSON holds it."""
        return {"kind": self.kind, "evidence": list(self.evidence)}


# What a log line proves. The first pattern that is found decides: an engine that runs out of memory within a collective
# logs both, and the memory is the cause. Sources: s sglang 0.5.23 and 0.4.9, l LLaMA-Factory 0.9.5, t PyTorch,
# h transformers, f safetensors, c CUDA's libraries, n NCCL, k the kernel, p Python (argparse, errno) and uvicorn.
PATTERNS: tuple[tuple[str, str], ...] = (
    (OUT_OF_MEMORY, r"\bOutOfMemoryError\b"),  # t
    (OUT_OF_MEMORY, r"CUDA (?:error: )?out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"),  # t, c
    (OUT_OF_MEMORY, r"CUBLAS_STATUS_ALLOC_FAILED"),  # c: no room for the workspace of cuBLAS
    (OUT_OF_MEMORY, r"Not enough memory\. Please"),  # s: pool_configurator.py
    (OUT_OF_MEMORY, r"DefaultCPUAllocator: (?:can't allocate|not enough) memory"),  # t
    (OUT_OF_MEMORY, r"Cannot allocate memory|\bMemoryError\b|std::bad_alloc"),  # p: errno 12; C++
    (OUT_OF_MEMORY, r"Out of memory: Killed process|Memory cgroup out of memory|oom-kill:"),  # k
    # s: utils/watchdog.py and engine.py, of a scheduler that somebody killed: who else than the kernel.
    (OUT_OF_MEMORY, r"exit code:? -9\b|scheduler .*terminated with -9\b"),
    (PORT, r"[Aa]ddress already in use|EADDRINUSE|\[Errno 98\]"),  # p
    (PORT, r"[Pp]ort \d+ is (?:already in use|not available|occupied)"),  # s: --nccl-port, the bootstrap port
    (FLAG, r": error: (?:unrecognized arguments|argument |the following arguments|ambiguous option)"),  # p
    (FLAG, r"Some (?:specified arguments|keys) are not used by the HfArgumentParser"),  # l, h
    (FLAG, r"ValueError: Template \S+ does not exist"),  # l
    (WEIGHTS, r"SafetensorError|safetensors_rust|Error while deserializing header"),  # f: damaged, cut off
    (WEIGHTS, r"Cannot find any model weights with"),  # s: model_loader/loader.py
    (WEIGHTS, r"Could not find checkpoint files"),  # s: weight_utils.py, of an index that names what is not there
    (WEIGHTS, r"Error no file named .*(?:safetensors|bin)|does not appear to have (?:a file|files) named"),  # h
    (WEIGHTS, r"size mismatch for |PytorchStreamReader failed|Attempted to load weight .*into parameter"),  # t, s
    (WEIGHTS, r"HFValidationError|Repo id must be in the form|is not a local folder and is not a valid model"),  # h
    (WEIGHTS, r"Incorrect path_or_model_id|Can't load the configuration of"),  # h
    (WEIGHTS, r"No such file or directory: .*(?:\.safetensors|\.bin|\.gguf|config\.json|\.index\.json)"),  # p
    (WEIGHTS, r"weights are not initialized from checkpoint"),  # s: several models
    (NCCL, r"nccl(?:System|UnhandledCuda|Internal|Remote)Error|ncclInvalidUsage|NCCL error"),  # n, t
    (NCCL, r"NCCL WARN .*(?:[Ee]rror|fail|timed? ?out)|DistBackendError"),  # n, t
    (NCCL, r"NCCL watchdog|Watchdog caught collective operation timeout|ProcessGroupNCCL.*tim(?:eout|ed out)"),  # t
    (CUDA, r"NVIDIA driver on your system is too old|CUDA driver version is insufficient"),  # t, c
    (CUDA, r"Found no NVIDIA driver|No CUDA GPUs are available|no CUDA-capable device|invalid device ordinal"),  # t, c
    (CUDA, r"no kernel image is available|CUDA (?:kernel )?errors?[: ]|cudaError[A-Z]\w+|CUDA_ERROR_\w+"),  # t, c
    (CUDA, r"CU(?:BLAS|DNN)_STATUS_(?!SUCCESS)\w+|Torch not compiled with CUDA enabled"),  # c, t
    (CUDA, r"libcud(?:a|art)\.so|nvidia-smi failed|Unexpected error from cudaGetDeviceCount"),  # p, s, t
    (FLAG, r"ValueError: .*--[a-z]"),  # s: what ServerArgs refuses names the option
)
# Warnings are of what was got over; NCCL calls its errors so. s: of a model that needs a package that is not there.
WARNING = re.compile(r"\bWARNING\b|\w+Warning: |Ignore import error when loading")
# s: utils/watchdog.py ends an engine whose forward pass hangs. Where a collective hangs, NCCL's own lines come first.
WATCHDOG = re.compile(r"[Ww]atchdog timeout ?\(")
# What a process that ends for another reason leaves last.
LAST_WORDS = re.compile(r"\b(?:\w*(?:Error|Exception|Interrupt)|error|ERROR|[Ff]atal|FATAL|Segmentation)\b")

# The gate's probes, by what their failing says when the log proves nothing else.
_BY_PROBE = {
    "readiness": TIMEOUT,
    "served name": IDENTITY,
    "identity": IDENTITY,
    "chat completion": GENERATION,
    "stream": GENERATION,
    "generation": GENERATION,
    "parity": PARITY,
    "load": LOAD,
}
_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in PATTERNS)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SECRETS = (
    re.compile(r"(?i)(\bbearer\s+)[^\s'\",)]+"),
    re.compile(r"(?i)((?:api|access|private|admin|secret)[-_ ]?key['\"]?\s*[=:]\s*['\"]?)[^\s'\",)]+"),
    re.compile(r"(?i)(--[a-z-]*(?:key|token|password|secret)[\s=]+)[^\s-]\S*"),
    re.compile(r"(?i)((?:token|password|passwd|secret)['\"]?\s*[=:]\s*['\"]?)(?!\d+\b)[^\s'\",)]+"),
    re.compile(r"(://[^/@\s:]*:)[^/@\s]+(?=@)"),
    re.compile(r"()\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{16,})"),
)


def classify(probe: str, reason: str, exit_status: str, log: str) -> Failure:
    """The kind of a failure, and what proves it.

    Args:
        probe: what the release failed on, as the gate names it.
        reason: what was seen.
        exit_status: how its process ended, `exit status 9 (oom-kill)`; '' while it runs.
        log: the end of its log.
    Returns:
        The kind; as evidence one to three lines of the log, none where the log says nothing of it.
    """
    lines = [text for line in log.splitlines() if (text := clean(line))]
    if "oom-kill" in exit_status:  # systemd's word for what the kernel did to the control group
        return Failure(OUT_OF_MEMORY, _matching(OUT_OF_MEMORY, lines) or _last_words(lines))
    if "is held by" in reason:  # the gate saw who listens instead
        return Failure(PORT, _matching(PORT, lines))
    ended = bool(exit_status) or probe == "process"
    # A process that lives may have got over an error that it logged, except where it never came to be ready.
    if ended or _BY_PROBE.get(probe) == TIMEOUT:
        for kind, pattern in _PATTERNS:
            if any(pattern.search(line) and not WARNING.search(line) for line in lines):
                return Failure(kind, _matching(kind, lines))
        hung = [line for line in lines if WATCHDOG.search(line)]
        if hung:
            return Failure(TIMEOUT, tuple(hung[:EVIDENCE_LINES]))
    if ended:
        # argparse's status, which both engines leave as it is.
        return Failure(FLAG if _status(exit_status) == 2 else CRASH, _last_words(lines))
    kind = _BY_PROBE.get(probe, OTHER)
    return Failure(kind, tuple(lines[-1:]) if kind == TIMEOUT else ())


def clean(line: str) -> str:
    """A line as it may be shown: no control characters, no value that looks like a secret, not too long."""
    text = _CONTROL.sub("", line[:LONGEST_READ]).strip()
    for pattern in _SECRETS:
        text = pattern.sub(r"\1***", text)
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…"


def _matching(kind: str, lines: list[str]) -> tuple[str, ...]:
    """The first lines that prove a kind: of what follows, and of what other ranks say, they are the cause."""
    patterns = [pattern for one, pattern in _PATTERNS if one == kind]
    found = [line for line in lines if not WARNING.search(line) and any(pattern.search(line) for pattern in patterns)]
    return tuple(dict.fromkeys(found))[:EVIDENCE_LINES]


def _last_words(lines: list[str]) -> tuple[str, ...]:
    """The last errors of a log, or its last line."""
    errors = [line for line in lines if LAST_WORDS.search(line) and not WARNING.search(line)]
    return tuple(dict.fromkeys((errors or lines[-1:])[-EVIDENCE_LINES:]))


def _status(exit_status: str) -> int | None:
    """The number in `exit status 7 (exit-code)`."""
    found = re.search(r"exit status (-?\d+)", exit_status)
    return int(found.group(1)) if found else None
