"""Headers of safetensors files: what is damaged is named with its file and tensor, whatever the bytes are."""

from __future__ import annotations

import copy
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.safetensors import (
    LARGEST_HEADER,
    Tensor,
    indexed_shards,
    missing_shards,
    read_header,
)

ENTRY = {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}
HEADER: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "norm.weight": ENTRY,
    "scale": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]},
}
HUGE = 10**4299  # the longest number that Python reads from JSON


def write(path: Path, header: bytes | dict[str, Any], data: int = 16) -> str:
    """A safetensors file of this header and `data` bytes of zeros."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * data)
    return str(path)


def test_a_header_gives_dtype_shape_size_and_parameters_of_each_tensor(tmp_path: Path) -> None:
    tensors = read_header(write(tmp_path / "w.safetensors", HEADER))
    assert tensors == {"norm.weight": Tensor("BF16", (2, 3), 12), "scale": Tensor("F32", (), 4)}
    assert [tensor.parameters for tensor in tensors.values()] == [6, 1]  # a shape without dimensions is one number


@pytest.mark.parametrize("header", [{}, {"__metadata__": {"format": "pt"}}])
def test_a_file_without_tensors_is_valid(tmp_path: Path, header: dict[str, Any]) -> None:
    assert read_header(write(tmp_path / "w.safetensors", header, data=0)) == {}


def test_the_last_of_two_equal_keys_counts_as_for_every_json_reader(tmp_path: Path) -> None:
    twice = b'{"w":{"dtype":"U8","shape":[9],"data_offsets":[0,9]},"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
    assert read_header(write(tmp_path / "w.safetensors", twice, data=4)) == {"w": Tensor("U8", (4,), 4)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(None, " is no JSON object", id="null"),
        pytest.param([ENTRY], " is no JSON object", id="list"),
        pytest.param({"dtype": None}, ", dtype is None", id="no-dtype"),
        pytest.param({"dtype": ["BF16"]}, ", dtype is ['BF16']", id="dtype-list"),
        pytest.param({"shape": None}, ", shape is None", id="no-shape"),
        pytest.param({"shape": "2x3"}, ", shape is '2x3'", id="shape-text"),
        pytest.param({"shape": [2, -3]}, ", shape is [2, -3]", id="shape-negative"),
        pytest.param({"shape": [2, 3.0]}, ", shape is [2, 3.0]", id="shape-float"),
        pytest.param({"shape": [2, True]}, ", shape is [2, True]", id="shape-bool"),
        pytest.param({"shape": [2, [3]]}, ", shape is [2, [3]]", id="shape-nested"),
        pytest.param({"shape": [2, float("nan")]}, ", shape is [2, nan]", id="shape-nan"),
        pytest.param({"data_offsets": None}, ", data_offsets is None", id="no-offsets"),
        pytest.param({"data_offsets": [12]}, ", data_offsets is [12]", id="one-offset"),
        pytest.param({"data_offsets": [0, 6, 12]}, ", data_offsets is [0, 6, 12]", id="three-offsets"),
        pytest.param({"data_offsets": {"0": 12}}, ", data_offsets is {'0': 12}", id="offsets-object"),
        pytest.param({"data_offsets": [False, 12]}, ", data_offsets is [False, 12]", id="offsets-bool"),
        pytest.param({"data_offsets": [0, 12.0]}, ", data_offsets is [0, 12.0]", id="offsets-float"),
        pytest.param({"data_offsets": [-4, 12]}, ", data_offsets is [-4, 12]", id="offsets-negative"),
        pytest.param({"data_offsets": [0, float("inf")]}, ", data_offsets is [0, inf]", id="offsets-infinite"),
        pytest.param({"data_offsets": [12, 0]}, ", data_offsets end before they begin: [12, 0]", id="offsets-swapped"),
        pytest.param({"shape": [2, 49]}, ", shape [2, 49] does not go into 12 bytes", id="shape-beyond-its-bytes"),
    ],
)
def test_a_damaged_entry_is_named_with_file_tensor_and_field(tmp_path: Path, change: Any, said: str) -> None:
    entry = {**ENTRY, **change} if isinstance(change, dict) else change
    path = write(tmp_path / "model-00002.safetensors", {**HEADER, "norm.weight": entry})
    with pytest.raises(DeployError) as caught:
        read_header(path)
    assert caught.value.problem == f"{path} has a damaged safetensors header: tensor 'norm.weight'{said}"
    assert caught.value.fix == "copy the file again from its source"


@pytest.mark.parametrize(
    "change", [{"shape": [HUGE]}, {"data_offsets": [0, HUGE]}, {"data_offsets": [0, int("9" * 4300)]}]
)
def test_a_number_beyond_any_file_is_damage(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write(tmp_path / "w.safetensors", {"w": {**ENTRY, **change}})
    with pytest.raises(DeployError, match="damaged safetensors header: tensor 'w', ") as caught:
        read_header(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("header", "said"),
    [
        pytest.param(b'{"w": ', "is not JSON", id="cut-off"),
        pytest.param(b'{"\xff": 1}', "is not JSON", id="not-utf-8"),
        pytest.param(b"[" * 100_000, "is not JSON", id="nested-deeper-than-python-reads"),
        pytest.param(b"1" * 5000, "is not JSON", id="number-longer-than-python-reads"),
        pytest.param(b"[1]", "is not a JSON object", id="list"),
        pytest.param(b'"w"', "is not a JSON object", id="text"),
        pytest.param(b"null", "is not a JSON object", id="null"),
    ],
)
def test_a_header_that_is_no_json_object_is_damage(tmp_path: Path, header: bytes, said: str) -> None:
    path = write(tmp_path / "w.safetensors", header)
    with pytest.raises(DeployError) as caught:
        read_header(path)
    assert caught.value.problem == f"{path} has a damaged safetensors header: it {said}"


@pytest.mark.parametrize("length", [0, 1, LARGEST_HEADER + 1, 2**63, 2**64 - 1])
def test_a_header_length_that_no_file_has_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with path.open("r+b") as stream:
        stream.truncate(2 * LARGEST_HEADER)  # a hole: long enough for the length, were it not for its bound
    with pytest.raises(DeployError, match=r"w\.safetensors is no safetensors file, or its header is truncated"):
        read_header(str(path))


@pytest.mark.parametrize("data", [15, 17])
def test_a_file_of_another_length_than_its_header_says_is_refused(tmp_path: Path, data: int) -> None:
    path = write(tmp_path / "w.safetensors", HEADER, data)
    size = Path(path).stat().st_size
    with pytest.raises(DeployError) as caught:
        read_header(path)
    assert caught.value.problem == f"{path} is {size} bytes long and its header says {size + 16 - data}"


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(str(tmp_path / "w.safetensors"))


def test_an_index_gives_its_shards_once_and_says_which_are_missing(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}))
    assert indexed_shards(str(index)) == ["1.safetensors", "2.safetensors"]
    files = {"text/model.safetensors.index.json": str(index), "text/1.safetensors": "", "2.safetensors": ""}
    assert missing_shards("text/model.safetensors.index.json", files) == ["2.safetensors"]  # it counts from its folder


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"weight_map": []}', '{"weight_map": {"w": 1}}'])
def test_an_index_without_a_weight_map_is_named(tmp_path: Path, text: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(DeployError) as caught:
        indexed_shards(str(index))
    assert caught.value.problem == f"{index} has no weight_map"


def tensors_or_refusal(path: Path) -> None:
    """What any bytes must give: tensors that a plan can count and a report can hold, or a DeployError with the path."""
    try:
        tensors = read_header(str(path))
    except DeployError as error:
        assert str(path) in error.problem
        return
    for tensor in tensors.values():
        assert tensor.size >= 0
        json.dumps([tensor.size, tensor.parameters])


@given(content=st.binary(max_size=64) | st.binary(max_size=64).map(lambda body: struct.pack("<Q", len(body)) + body))
def test_any_bytes_give_tensors_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.safetensors"
    path.write_bytes(content)
    tensors_or_refusal(path)


NUMBERS = st.integers() | st.floats() | st.booleans() | st.just(HUGE) | st.lists(st.just(2**62), min_size=300)
JSON = st.recursive(
    st.none() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(data=st.data())
def test_any_value_anywhere_in_a_header_gives_tensors_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    header = copy.deepcopy(HEADER)
    name = data.draw(st.sampled_from(["norm.weight", "scale", "another", "model.layers.0.mlp.weight"]))
    field = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", None]))
    value = data.draw(JSON)
    if field is None or name not in header:
        header[name] = value
    else:
        header[name][field] = value
    tensors_or_refusal(Path(write(tmp_path_factory.getbasetemp() / "mutated.safetensors", header)))


@given(place=st.integers(0, len(json.dumps(HEADER)) + 7), byte=st.integers(0, 255))
def test_any_single_changed_byte_gives_tensors_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = Path(write(tmp_path_factory.getbasetemp() / "flipped.safetensors", HEADER))
    content = bytearray(path.read_bytes())
    content[place] = byte
    path.write_bytes(content)
    tensors_or_refusal(path)
