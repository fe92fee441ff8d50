"""Which files of a folder are the model: what training, downloads and tools leave beside it is left out, visibly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

MANIFEST_FILE = "manifest.json"  # the name of a model's manifest in its folder on a host

_STATE = "state of the training, to go on from"
_RECORD = "record of the training"
_PARTIAL = "not complete, or a lock"
_TOOL = "left by a tool"

# Pattern -> what such a file is. Names come from the sources of transformers, accelerate, DeepSpeed, LLaMA-Factory,
# Megatron-LM, verl, ms-swift, huggingface_hub and modelscope.
NOT_THE_MODEL = {
    ".git*": "version control: a clone and a download of one model are the same model",
    ".cache": "what huggingface_hub keeps of a download into a folder",
    ".msc": "what ModelScope keeps of a download",
    ".mdl": "what ModelScope keeps of a download",
    ".mv": "what ModelScope keeps of a download",
    "._____temp": "what ModelScope has not finished downloading",
    ".*": "hidden; no engine reads it",
    "checkpoint-*": "a checkpoint of the training",
    "tmp-checkpoint-*": "a checkpoint that was not finished",
    "global_step*": _STATE,
    "iter_[0-9]*": _STATE,
    "latest": _STATE,
    "latest_checkpointed_iteration.txt": _STATE,
    "zero_to_fp32.py": _STATE,
    "*zero_pp_rank_*": _STATE,
    "mp_rank_*_model_states.pt": _STATE,
    "*_optim_states.pt": _STATE,
    "pytorch_model_fsdp*": _STATE,
    "*.distcp": _STATE,
    "optimizer*.pt": _STATE,
    "optimizer*.bin": _STATE,
    "optimizer*.safetensors": _STATE,
    "optimizer_[0-9]*": _STATE,
    "scheduler.pt": _STATE,
    "scheduler.bin": _STATE,
    "scaler.pt": _STATE,
    "sampler*.bin": _STATE,
    "random_states_*.pkl": _STATE,
    "rng_state*.pth": _STATE,
    "trainer_state.json": _STATE,
    "training_args.*": _RECORD,
    "trainer_log.jsonl": _RECORD,
    "logging.jsonl": _RECORD,
    "llamaboard_config.yaml": _RECORD,
    "running_log.txt": _RECORD,
    "training_*.png": _RECORD,
    "all_results.json": _RECORD,
    "train_results.json": _RECORD,
    "eval_results.json": _RECORD,
    "predict_results.json": _RECORD,
    "generated_predictions.jsonl": _RECORD,
    "events.out.tfevents.*": _RECORD,
    "runs": _RECORD,
    "wandb": _RECORD,
    "swanlog": _RECORD,
    "mlruns": _RECORD,
    "*.log": _RECORD,
    "nohup.out": _RECORD,
    "*.tmp": _PARTIAL,
    "*.part": _PARTIAL,
    "*.partial": _PARTIAL,
    "*.incomplete": _PARTIAL,
    "*.aria2": _PARTIAL,
    "*.crdownload": _PARTIAL,
    "*.lock": _PARTIAL,
    "__pycache__": _TOOL,
    "*.pyc": _TOOL,
    "*~": _TOOL,
    "*.swp": _TOOL,
    MANIFEST_FILE: "the deployment's own list of a model's files",
}


@dataclass(frozen=True)
class Rules:
    """What is left out of a folder, and what is kept in spite of that. Patterns are those of a shell, case counts.

    A pattern without '/' is compared with the name of every file and folder, at any depth; one with '/' with the path
    below the folder, part by part. What is in a folder that is left out is left out with it.

    Attributes:
        exclude: patterns of what is left out.
        include: patterns of what is kept in spite of them.
    """

    exclude: tuple[str, ...]
    include: tuple[str, ...]

    def reason(self, path: str) -> str | None:
        """The pattern that leaves a file or folder out, itself or with a folder above it; None where it is kept.

        Args:
            path: below the folder, '/'-separated; or a name alone.
        """
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            above = parts[:depth]
            found = next((pattern for pattern in self.exclude if _matches(pattern, above)), None)
            if found is None:
                continue
            # At the top it is the deployment's, and would be written over on the host.
            if above == [MANIFEST_FILE] or not any(_matches(pattern, above) for pattern in self.include):
                return found
        return None


def model_rules(exclude: Iterable[str] = (), include: Iterable[str] = ()) -> Rules:
    """The rules for a model: the default ones and the user's.

    Args:
        exclude: patterns of what is to be left out as well.
        include: patterns of what is to be kept in spite of any rule; manifest.json at the top never is.
    Raises:
        DeployError: a pattern that could match nothing.
    """
    return Rules((*NOT_THE_MODEL, *map(_pattern, exclude)), tuple(map(_pattern, include)))


def why(pattern: str) -> str:
    """What a default rule leaves out, for people; of other patterns, whose they are."""
    return NOT_THE_MODEL.get(pattern, "a rule of yours")


def _pattern(text: str) -> str:
    """A user's pattern as it is compared: `runs/` is a name, `./x` and `/x` are `x` at the top."""
    top = text.startswith(("/", "./"))
    pattern = text.removeprefix(".").removeprefix("/").rstrip("/") if top else text.rstrip("/")
    if any(part in ("", ".", "..") for part in pattern.split("/")):
        raise DeployError(
            f"{text!r} is no pattern for files of a model", "write a name (*.bin), or a path below the folder (a/b*)"
        )
    return f"/{pattern}" if top else pattern


def _matches(pattern: str, parts: list[str]) -> bool:
    if "/" not in pattern:
        return fnmatchcase(parts[-1], pattern)
    wanted = pattern.removeprefix("/").split("/")
    return len(wanted) == len(parts) and all(map(fnmatchcase, parts, wanted))


EVERYTHING = Rules((), ())
MODEL = model_rules()
