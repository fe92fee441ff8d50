"""LLaMA-Factory's options and templates, read from its sources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.engines.llamafactory_options import (
    PARSER,
    TEMPLATE,
    read_options,
    read_template_defaults,
)
from ansible_collections.deployer.sglang.plugins.module_utils.engines.option_table import Option
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

MODEL_ARGS = "llamafactory/hparams/model_args.py"
SOURCES = {
    PARSER: """
from .model_args import ModelArguments
from .generating_args import GeneratingArguments
from .training_args import TrainingArguments
_TRAIN_ARGS = [ModelArguments, TrainingArguments]
_INFER_ARGS = [ModelArguments, GeneratingArguments]
""",
    MODEL_ARGS: """
from ..extras.constants import EngineName, RopeScaling

@dataclass
class BaseModelArguments:
    model_name_or_path: str | None = field(default=None, metadata={"help": "The model."})
    infer_backend: EngineName = field(default=EngineName.HF)
    rope_scaling: Optional[RopeScaling] = field(default=None)
    infer_dtype: Literal["auto", "float16"] = field(default="auto")
    quantization_device_map: Optional[Literal["auto"]] = field(default=None)
    trust_remote_code: bool = field(default=True)
    use_v1_kernels: bool | None = field(default=False)
    names: Optional[list[int]] = field(default=None, metadata={"aliases": ["--n"]})
    shared: int = 0

@dataclass
class VllmArguments:
    vllm_maxlen: int = field(default=4096)
    vllm_config: Optional[Union[dict, str]] = field(default=None)
    sglang_config: dict | str | None = field(default=None)
    shared: float = 0.0

@dataclass
class ModelArguments(VllmArguments, BaseModelArguments):
    compute_dtype: torch.dtype | None = field(default=None, init=False, metadata={"help": "Derived."})
    count: ClassVar[int] = 0
    other: SomeType = field(default=None)
""",
    "llamafactory/hparams/generating_args.py": """
class GeneratingArguments:
    temperature: float = field(default=0.95)

    def __post_init__(self):
        self.stop: list[str] = []
""",
    "llamafactory/extras/constants.py": """
class EngineName(StrEnum):
    HF = "huggingface"
    VLLM = "vllm"

@unique
class RopeScaling(str, Enum):
    LINEAR = "linear"
    DYNAMIC = "dynamic"
""",
    TEMPLATE: """
def register_template(name, default_system=""):
    TEMPLATES[name] = default_system

register_template(
    name="qwen",
    default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    stop_words=["<|im_end|>"],
)
register_template(name="default", format_user=StringFormatter(slots=["Human: {{content}}"]))
register_template(
    name="llava",
    default_system=(
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives answers."
    ),
)
register_template(name="computed", default_system=prompt())
""",
}


@pytest.mark.parametrize(
    "option",
    [
        Option(("--model_name_or_path",), "str"),
        Option(("--infer_backend",), "str", ("huggingface", "vllm")),
        Option(("--rope_scaling",), "str", ("linear", "dynamic")),
        Option(("--infer_dtype",), "str", ("auto", "float16")),
        Option(("--quantization_device_map",), "str", ("auto",)),
        Option(("--trust_remote_code",), "bool"),
        Option(("--use_v1_kernels",), "bool"),
        Option(("--names", "--n"), "int", many=True),
        Option(("--shared",), "float"),
        Option(("--vllm_maxlen",), "int"),
        Option(("--vllm_config",), "str"),
        Option(("--sglang_config",), "str"),
        Option(("--other",), "any", many=True),
        Option(("--temperature",), "float"),
    ],
    ids=lambda option: option.flags[0],
)
def test_fields_are_read(option: Option) -> None:
    table = read_options(SOURCES, "0.9.5")
    assert table.find(option.flags[0]) == option
    assert len(table.options) == 14


def test_the_negated_form_leads_to_the_option() -> None:
    assert read_options(SOURCES, "0.9.5").problem("no_trust_remote_code", True) == (
        "is no option of llamafactory 0.9.5, did you mean trust_remote_code?"
    )


def test_template_defaults_are_read() -> None:
    assert read_template_defaults(SOURCES) == {
        "qwen": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        "default": "",
        "llava": (
            "A chat between a curious user and an artificial intelligence assistant. The assistant gives answers."
        ),
    }


def test_a_missing_or_broken_source_is_named() -> None:
    with pytest.raises(DeployError, match=rf"has no {PARSER}"):
        read_options({}, "0.9.5")
    with pytest.raises(DeployError, match=rf"has no {MODEL_ARGS}"):
        read_options({path: text for path, text in SOURCES.items() if path != MODEL_ARGS}, "0.9.5")
    with pytest.raises(DeployError, match=rf"{MODEL_ARGS} of llamafactory 0\.9\.5 is no Python .*line 1"):
        read_options({**SOURCES, MODEL_ARGS: "class"}, "0.9.5")
    with pytest.raises(DeployError, match=rf"has no {TEMPLATE}"):
        read_template_defaults({})


def test_an_unknown_layout_is_refused() -> None:
    for text in ("", "_INFER_ARGS = classes()", "_INFER_ARGS = [Unknown]"):
        with pytest.raises(DeployError, match="names no classes in _INFER_ARGS"):
            read_options({**SOURCES, PARSER: text}, "1.0")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for path in (PARSER, MODEL_ARGS, TEMPLATE):
        try:
            read_options({**SOURCES, path: text}, "1")
            read_template_defaults({**SOURCES, path: text})
        except DeployError:
            continue
