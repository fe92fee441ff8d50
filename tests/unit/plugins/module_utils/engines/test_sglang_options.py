"""SGLang's options, read from sources in both of its styles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.engines.option_table import Option, OptionTable
from ansible_collections.deployer.sglang.plugins.module_utils.engines.sglang_options import (
    SERVER_ARGS,
    read_options,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

CALLS = """
import argparse
from sglang.srt.parser.reasoning_parser import ReasoningParser
from sglang.srt.utils.common import ALL_MODULES, MODULES

BACKENDS = ["triton", "fa3"]
if is_hip():
    BACKENDS.append("aiter")
COUNTED = {"one", "two"}

class LoRAPathAction(argparse.Action):
    pass

class DeprecatedAction(argparse.Action):
    def __init__(self, option_strings, dest, nargs=0, **kwargs):
        super().__init__(option_strings, dest, nargs=nargs, **kwargs)

class ServerArgs:
    tp_size: int = 1

    @staticmethod
    def add_cli_args(parser: argparse.ArgumentParser):
        parser.add_argument("model", help="not a flag")
        parser.add_argument("--tensor-parallel-size", "--tp-size", type=int, default=ServerArgs.tp_size)
        parser.add_argument("--mem-fraction-static", type=float)
        parser.add_argument("--context-length", type=human_readable_int)
        parser.add_argument("--revision")
        parser.add_argument("--override", type=json.loads)
        parser.add_argument("--level", type=int, choices=[0, 1, -1])
        parser.add_argument("--attention-backend", type=str, choices=BACKENDS)
        parser.add_argument("--counted", choices=list(COUNTED))
        parser.add_argument("--elsewhere", choices=FROM_ELSEWHERE)
        parser.add_argument("--lora-target-modules", nargs="*", choices=MODULES + [ALL_MODULES])
        parser.add_argument("--lora-paths", type=str, nargs="*", action=LoRAPathAction)
        parser.add_argument("--cuda-graph-bs", type=int, nargs="+")
        parser.add_argument("--ratio", nargs="?", const=0.5, type=float)
        parser.add_argument("--parsed", type=lambda text: text)
        parser.add_argument("--enable-metrics", action="store_true")
        parser.add_argument("--fuse", action=argparse.BooleanOptionalAction)
        names = list(ReasoningParser.DetectorMap.keys())
        parser.add_argument("--reasoning-parser", choices=["auto"] + names, help=f"One of {names}.")
        parser.add_argument("--balance", action=DeprecatedAction, help="Note: --balance is deprecated now.")
        parser.add_argument("--old", action="store_true", help="[Deprecated] Use --new instead.")
        parser.add_argument("--grpc", action="store_true", help="Replaces the deprecated --old-grpc.")
        parser.add_argument("--what", action=unknown.Action)
        parser.add_argument("--more", **keywords)
        for phase in ("prefill", "decode"):
            flag = f"--{phase}-backend"
            parser.add_argument(flag, choices=BACKENDS)
        for name, count in [("--steps", 1), ("--topk", 2)]:
            parser.add_argument(name, type=int, default=count)
        if plugins():
            group = parser.add_argument_group("plugins")
            group.add_argument("--plugin", type=str)
        add_more(parser)

def add_more(parser):
    parser.add_argument("--config", type=str)
"""
OTHERS = {
    "sglang/srt/parser/reasoning_parser.py": """
class ReasoningParser:
    DetectorMap: Dict[str, Type] = {"deepseek-r1": DeepSeekR1Detector, "qwen3": Qwen3Detector}
""",
    "sglang/srt/utils/common.py": 'MODULES = ["q_proj", "k_proj"]\nALL_MODULES = "all"\n',
}

FIELDS = {
    SERVER_ARGS: """
from sglang.srt.arg_groups.arg_utils import A, Arg, add_cli_args_from_dataclass
from sglang.srt.arg_groups.argparse_actions import DeprecatedStoreTrueAction
from sglang.srt.arg_groups.fields.parallel import Parallel
from sglang.srt.arg_groups.fields.memory import Memory

def _parsers():
    module = sys.modules.get("sglang.srt.parser.reasoning_parser")
    if module is not None:
        return list(module.ReasoningParser.DetectorMap)
    from sglang.srt.parser.reasoning_parser_names import REASONING_PARSER_NAMES
    return list(REASONING_PARSER_NAMES)

class ServerArgs:
    @staticmethod
    def add_cli_args(parser):
        add_cli_args_from_dataclass(parser, ServerArgs)
        parsers = _parsers()
        parser.add_argument("--reasoning-parser", type=str, choices=["auto"] + parsers)
        parser.add_argument(
            "--enable-dp-attention",
            action=DeprecatedStoreTrueAction,
            new_flag="--attn-dp-size <dp-size>",
            help="Deprecated. Use --attn-dp-size <dp-size> instead.",
        )

_INPUT_NAMESPACES = [Parallel, Memory]
ServerArgs = msgspec.defstruct("ServerArgs", [])
""",
    "sglang/srt/arg_groups/argparse_actions.py": """
class DeprecatedStoreTrueAction(argparse.Action):
    def __init__(self, option_strings, dest, new_flag=None, nargs=0, const=True, default=False, **kwargs):
        pass
""",
    "sglang/srt/arg_groups/choices.py": 'BACKENDS = ["triton", "fa3"]\nadd_backends = BACKENDS.extend\n',
    "sglang/srt/parser/reasoning_parser_names.py": 'REASONING_PARSER_NAMES = ["qwen3"]',
    "sglang/srt/arg_groups/fields/parallel.py": """
from sglang.srt.arg_groups.choices import BACKENDS

class Parallel(msgspec.Struct):
    _NS_PATH = "parallel"
    tp_size: A[int, Arg(help="The size.", aliases=["--tensor-parallel-size"])] = 1
    fp8_gemm_runner_backend: A[str, Arg(cli_name="--fp8-gemm-backend", choices=BACKENDS)] = "triton"
    enable_dp_attention: A[bool, Arg(no_cli=True)] = False
    dist_timeout: A[Optional[int], "A timeout."] = None
    fuse: A[Optional[bool], Arg(action=argparse.BooleanOptionalAction)] = None
    mode: A[Literal["auto", "slow"], "The mode."] = "auto"
    level: A[int | None, Arg(help="The level.", choices=(0, 1)), NS("parallel")] = None
    rank: A[int, NS("parallel")] = 0
    world = Derived(doc="Not an option.")
    plain: int = 0
""",
    "sglang/srt/arg_groups/fields/memory.py": """
class Memory(msgspec.Struct):
    mem_fraction_static: A[Optional[float], "A fraction."] = None
    max_total_tokens: A[Optional[int], Arg(type_parser=human_readable_int)] = None
    log_requests: A[bool, "Log."] = False
    buckets: A[Optional[List[float]], Arg("Buckets.", nargs="*")] = None
    metrics_labels: A[Optional[List[str]], Arg(help="JSON.", type_parser=json_list_type)] = None
    extra: A[Optional[Dict[str, Any]], Arg(help="JSON.", type_parser=json.loads)] = None
    lora_paths: A[Optional[List[str]], Arg(action=LoRAPathAction, action_kwargs={"type": str, "nargs": "*"})] = None
    target: A[Optional[Union[set[str], List[str]]], Arg(nargs="*", choices=["a", "b"])] = None
    checksum: A[Optional[str], Arg(nargs="?", const="")] = None
    graph: A[Optional[GraphConfig], Arg(type_parser=parse_graph)] = None
    alias: A[Alias, "A type of another name."] = None
    pil: A[bool, "Deprecated. Use --image-processor-backend=pil instead."] = False
""",
}


def one(table: OptionTable, name: str) -> Option:
    option = table.find(name)
    assert option is not None, name
    return option


@pytest.mark.parametrize(
    "option",
    [
        Option(("--tensor-parallel-size", "--tp-size"), "int"),
        Option(("--mem-fraction-static",), "float"),
        Option(("--context-length",), "size"),
        Option(("--revision",), "str"),
        Option(("--override",), "str"),
        Option(("--level",), "int", ("0", "1", "-1")),
        # Whether a branch runs is not known: every value that may be a choice is one.
        Option(("--attention-backend",), "str", ("triton", "fa3", "aiter")),
        Option(("--counted",), "str", ("one", "two")),
        Option(("--elsewhere",), "str"),
        Option(("--lora-target-modules",), "str", ("q_proj", "k_proj", "all"), many=True),
        Option(("--lora-paths",), "str", many=True),
        Option(("--cuda-graph-bs",), "int", many=True),
        Option(("--ratio",), "any"),
        Option(("--parsed",), "any"),
        Option(("--enable-metrics",), "flag"),
        Option(("--fuse", "--no-fuse"), "flag"),
        Option(("--reasoning-parser",), "str", ("auto", "deepseek-r1", "qwen3")),
        Option(("--balance",), "flag", deprecated="Note: --balance is deprecated now."),
        Option(("--old",), "flag", deprecated="[Deprecated] Use --new instead."),
        Option(("--grpc",), "flag"),
        Option(("--what",), "any", many=True),
        Option(("--more",), "any", many=True),
        Option(("--prefill-backend",), "str", ("triton", "fa3", "aiter")),
        Option(("--decode-backend",), "str", ("triton", "fa3", "aiter")),
        Option(("--topk",), "int"),
        Option(("--plugin",), "str"),
        Option(("--config",), "str"),
    ],
    ids=lambda option: option.flags[0],
)
def test_calls_are_read(option: Option) -> None:
    assert one(read_options({SERVER_ARGS: CALLS, **OTHERS}, "0.4.9"), option.flags[0]) == option


def test_choices_of_a_file_that_is_not_there_are_unknown() -> None:
    table = read_options({SERVER_ARGS: CALLS}, "0.4.9")
    assert one(table, "reasoning_parser") == Option(("--reasoning-parser",), "str")
    broken = read_options({SERVER_ARGS: CALLS, "sglang/srt/parser/reasoning_parser.py": "class"}, "0.4.9")
    assert one(broken, "reasoning_parser").choices is None
    assert len(table.options) == len(broken.options)


@pytest.mark.parametrize(
    "option",
    [
        Option(("--tp-size", "--tensor-parallel-size"), "int"),
        Option(("--fp8-gemm-backend",), "str", ("triton", "fa3")),
        Option(("--enable-dp-attention",), "flag", deprecated="use --attn-dp-size <dp-size>"),
        Option(("--dist-timeout",), "int"),
        Option(("--fuse", "--no-fuse"), "flag"),
        Option(("--mode",), "str", ("auto", "slow")),
        Option(("--level",), "int", ("0", "1")),
        Option(("--mem-fraction-static",), "float"),
        Option(("--max-total-tokens",), "size"),
        Option(("--log-requests",), "flag"),
        Option(("--buckets",), "float", many=True),
        Option(("--metrics-labels",), "str"),
        Option(("--extra",), "str"),
        Option(("--lora-paths",), "str", many=True),
        Option(("--target",), "str", ("a", "b"), many=True),
        Option(("--checksum",), "str"),
        Option(("--graph",), "any"),
        Option(("--alias",), "any", many=True),
        Option(("--pil",), "flag", deprecated="Deprecated. Use --image-processor-backend=pil instead."),
        Option(("--reasoning-parser",), "str", ("auto", "qwen3")),
    ],
    ids=lambda option: option.flags[0],
)
def test_fields_are_read(option: Option) -> None:
    table = read_options(FIELDS, "0.5.23")
    assert one(table, option.flags[0]) == option
    assert len(table.options) == 20


def test_fields_of_server_args_itself_are_read() -> None:
    source = """
class ServerArgs:
    tp_size: A[int, Arg(help="The size.", aliases=["--tensor-parallel-size"])] = 1
    def add_cli_args(parser):
        add_cli_args_from_dataclass(parser, ServerArgs)
"""
    table = read_options({SERVER_ARGS: source}, "0.5.15")
    assert table == OptionTable("sglang", "0.5.15", (Option(("--tp-size", "--tensor-parallel-size"), "int"),))


def test_a_missing_source_is_named() -> None:
    with pytest.raises(DeployError, match=r"sglang 0\.5\.23 has no sglang/srt/server_args\.py"):
        read_options({}, "0.5.23")
    sources = {path: text for path, text in FIELDS.items() if not path.endswith("memory.py")}
    with pytest.raises(DeployError, match=r"has no sglang/srt/arg_groups/fields/memory\.py"):
        read_options(sources, "0.5.23")


@pytest.mark.parametrize("path", [SERVER_ARGS, "sglang/srt/arg_groups/fields/memory.py"])
def test_a_source_that_is_no_python_is_named(path: str) -> None:
    for text in ("class ServerArgs(", "\0", "(" * 1000):
        with pytest.raises(DeployError, match=path):
            read_options({**FIELDS, path: text}, "0.5.23")


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(DeployError, match=r"has no ServerArgs\.add_cli_args"):
        read_options({SERVER_ARGS: "class ServerArgs: pass"}, "0.9.0")


def test_a_list_that_is_defined_by_itself_is_unknown() -> None:
    source = """
NAMES = NAMES + NAMES
class ServerArgs:
    def add_cli_args(parser):
        for flag in ("--x", "--y"):
            parser.add_argument(flag, choices=NAMES)
"""
    assert read_options({SERVER_ARGS: source}, "1").options == (Option(("--x",), "str"), Option(("--y",), "str"))


def test_functions_that_hand_the_parser_to_each_other_come_to_an_end() -> None:
    source = """
class ServerArgs:
    def add_cli_args(parser):
        add_more(parser)
def add_more(parser):
    parser.add_argument("--x")
    add_more(parser)
"""
    assert read_options({SERVER_ARGS: source}, "1").options == (Option(("--x",), "str"),)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for sources in ({SERVER_ARGS: text}, {**FIELDS, "sglang/srt/arg_groups/fields/memory.py": text}):
        try:
            read_options(sources, "1")
        except DeployError:
            continue


LEAVES = ("x", "BACKENDS", "Memory", "None", "True", "1", "...", "b'x'", '"--x"', "()", "[]", "{}", "lambda: 0", "*x")
BRANCHES = (
    *("[{}, {}]", "{{{}: {}}}", "{{**{}}}", "[*{}]", "({} + {})", "({} | {})", "-{}", "{}.x", "{}[{}]", "{}({})"),
    *("{}({}=1)", "list({})", "[x for x in {}]", "Arg({}, aliases={})", "A[{}, {}]", "Literal[{}]", "Optional[{}]"),
    *("List[{}]", "{}.keys()", "{}.value"),
)
EXPRESSIONS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.builds(lambda pattern, a, b: pattern.format(a, b), st.sampled_from(BRANCHES), inner, inner),
    max_leaves=6,
)


@given(EXPRESSIONS, EXPRESSIONS, EXPRESSIONS, EXPRESSIONS, EXPRESSIONS)
def test_any_expression_is_read_or_refused(a: str, b: str, c: str, d: str, e: str) -> None:
    source = f"""
BACKENDS = {a}
class Memory({b}):
    x: A[{a}, {b}] = {c}
    y: A[{c}, Arg(choices={d}, nargs={e}, aliases={a}, action_kwargs={b})] = 1
    z: A[{e}, Arg(action={d}, action_kwargs={c}, no_cli={a})] = 1
class ServerArgs:
    def add_cli_args(parser):
        add_cli_args_from_dataclass(parser, ServerArgs)
        parser.add_argument("--x", {a}, type={b}, choices={c}, nargs={d}, help={e})
        parser.add_argument("--y", action={a}, nargs={b}, new_flag={c})
        for p, q in {d}:
            parser.add_argument(p, choices=q)
_INPUT_NAMESPACES = [Memory]
"""
    try:
        table = read_options({SERVER_ARGS: source}, "1")
    except DeployError:
        return
    assert OptionTable.from_dict(table.as_dict()) == table
