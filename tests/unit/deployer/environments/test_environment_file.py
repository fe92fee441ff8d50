from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments.environment_file import EnvironmentFile, parse_environment, read_environment

TEXT = """
name: sglang   # ours
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python =3.12
  - conda-forge::libstdcxx >=13
  - numpy[version=">=2,<3"]
  - pip
  - pip:
      - sglang[all] ==0.5.23
      - Flash_Attn>=2 ; python_version < "3.13"
prefix: /opt/conda/envs/sglang
"""


def refusal(text: str, virtual_packages: str = "") -> DeployError:
    with pytest.raises(DeployError) as error:
        parse_environment(text, virtual_packages, "environments/a/environment.yml")
    return error.value


def test_reads_condas_own_file() -> None:
    environment = parse_environment(TEXT)
    assert environment.channels == ("conda-forge",)
    assert [(spec.name, spec.spec, spec.channel, spec.line) for spec in environment.conda] == [
        ("python", "python =3.12", "", 7),
        ("libstdcxx", "libstdcxx >=13", "conda-forge", 8),
        ("numpy", 'numpy[version=">=2,<3"]', "", 9),
        ("pip", "pip", "", 10),
    ]
    assert [(requirement.name, requirement.line) for requirement in environment.pip] == [
        ("sglang", 12),
        ("flash-attn", 13),
    ]
    assert environment.glibc == "2.34"
    assert "__cuda" not in environment.virtual_packages


def test_virtual_packages_are_conda_locks(tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text(TEXT)
    (tmp_path / "virtual-packages.yml").write_text(
        "subdirs:\n  linux-64: {packages: {__glibc: '2.28', __cuda: '13.0'}}\n  osx-64: {packages: {__osx: '11'}}\n"
    )
    environment = read_environment(tmp_path)
    assert (environment.glibc, environment.virtual_packages["__cuda"]) == ("2.28", "13.0")


@pytest.mark.parametrize(
    "other",
    [
        TEXT.replace("name: sglang   # ours", "name: other"),
        TEXT.replace("  - python =3.12\n", "").replace("  - pip\n", "  - pip\n  - python  =3.12\n"),
        TEXT.replace("sglang[all] ==0.5.23", "sglang[all]==0.5.23"),
        TEXT.replace("prefix: /opt/conda/envs/sglang", ""),
    ],
    ids=["name and comment", "order", "spelling", "prefix"],
)
def test_digest_is_of_what_counts(other: str) -> None:
    assert parse_environment(other).digest == parse_environment(TEXT).digest


@pytest.mark.parametrize(
    ("text", "virtual"),
    [
        (TEXT.replace("3.12", "3.11"), ""),
        (TEXT.replace("0.5.23", "0.5.24"), ""),
        (TEXT.replace("- nodefaults", "- bioconda"), ""),
        (TEXT, 'subdirs: {linux-64: {packages: {__cuda: "13.0"}}}'),
    ],
)
def test_digest_changes_with_what_counts(text: str, virtual: str) -> None:
    assert parse_environment(text, virtual).digest != parse_environment(TEXT).digest


def with_pip(line: str) -> str:
    return f"channels: [c]\ndependencies:\n- python\n- pip:\n  - {line}\n"


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("", "has no dependencies", "python =3.12"),
        ("- a", "the file is not a mapping", ""),
        (
            "channels: [c]\ndependancies: [python]",
            "line 2: dependancies is not a known key",
            "did you mean dependencies?",
        ),
        ("channels: [c]\nchannels: [d]\ndependencies: [python]", "line 2: channels stands there twice", ""),
        ("dependencies: [python]", "names no channel", "conda-forge"),
        ("channels: [nodefaults]\ndependencies: [python]", "line 1: names no channel", "conda-forge"),
        ("channels: [c]\ndependencies: []", "line 2: dependencies names no conda package", "python"),
        ("channels: [c]\ndependencies: ['=3']", "line 2: =3 is not a conda match spec", ""),
        ("channels: [c]\ndependencies: [d::python]", "line 2: d is not among the channels", ""),
        ("channels: [c]\ndependencies: [{npm: [a]}]", "line 2: npm is not a known key", ""),
        ("channels: ['a b']\ndependencies: [python]", "line 1: a b is not a channel", "its URL"),
        (
            "channels: [c]\ndependencies: [python]\nvariables: {A: b}",
            "line 3: variables are set when",
            "in the inventory",
        ),
        ("channels: [c]\ndependencies: [python]\nplatforms: [osx-arm64]", "platforms has osx-arm64", "add linux-64"),
        ("channels: [c]\ndependencies: [python", "line 2 is not YAML", ""),
        ("channels: [c]\ndependencies: [*a]", "line 2 is not YAML", ""),
        ("a: \0", "is not YAML", ""),
        ("[" * 5000, "is nested too deeply", ""),
        (with_pip("-r more.txt"), "line 5: -r more.txt names another file", "write its lines here"),
        (with_pip("--index-url https://h/simple"), "says where packages come from", "sources.yml"),
        (with_pip("-e ./mine"), "is a folder", "pip wheel"),
        (with_pip("./mine"), "is a folder", "find_links"),
        (with_pip("--no-deps"), "is an option of pip", ""),
        (with_pip("a @ https://h/a-1-py3-none-any.whl"), "is a URL", "find_links"),
        (with_pip("git+https://h/a"), "is a URL", "find_links"),
        (with_pip("a=1"), "line 5: a=1 is not a pip requirement", "name ==1.2"),
        (with_pip("{a: b}"), "line 5: a pip requirement is not a single value", ""),
    ],
)
def test_mistakes_name_their_place(text: str, problem: str, fix: str) -> None:
    error = refusal(text)
    assert error.problem.startswith("environments/a/environment.yml")
    assert problem in error.problem
    assert fix in error.fix
    assert "\n" not in error.problem


@pytest.mark.parametrize(
    "text",
    [
        "channels: ['https://me:hunter2@h.example.com/c']\ndependencies: [python]",
        "channels: ['https://h.example.com/t/hunter2/c']\ndependencies: [python]",
        "channels: ['https://me:${hunter2}@h.example.com/c']\ndependencies: [python]",
        "channels: [c]\ndependencies: ['https://me:hunter2@h.example.com/c::python']",
        "channels: [c]\ndependencies: ['https://me:hunter2@h.example.com/c/linux-64/a-1-0.conda']",
        with_pip("a @ https://me:hunter2@h.example.com/a-1-py3-none-any.whl"),
        with_pip("--index-url https://me:hunter2@h.example.com/simple"),
        with_pip("me:hunter2@h.example.com"),
    ],
)
def test_credentials_are_refused_and_not_repeated(text: str) -> None:
    assert "hunter2" not in str(refusal(text))


@pytest.mark.parametrize(
    ("virtual", "problem", "fix"),
    [
        ("subdir: {}", "subdir is not a known key", "did you mean subdirs?"),
        ("subdirs: {linux-64: {package: {}}}", "package is not a known key", "did you mean packages?"),
        ("subdirs: {linux-64: {packages: {glibc: '2.34'}}}", "glibc is not a known key", "did you mean __glibc?"),
        ("subdirs: {linux-64: {packages: {__glibc: new}}}", "__glibc: new is not a version", ""),
        ("subdirs: {linux-64: {packages: {__glibc: '2.12'}}}", "__glibc: 2.12 has no wheels", "2.17 or later"),
        ("subdirs: {linux-64: {packages: [__cuda]}}", "packages is not a mapping", ""),
    ],
)
def test_mistakes_in_virtual_packages(virtual: str, problem: str, fix: str) -> None:
    error = refusal(TEXT, virtual)
    assert error.problem.startswith("virtual-packages.yml")
    assert problem in error.problem
    assert fix in error.fix


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"environment\.yml cannot be read"):
        read_environment(tmp_path)
    (tmp_path / "environment.yml").write_bytes(b"\xff\xfe")
    with pytest.raises(DeployError, match="is not UTF-8 text"):
        read_environment(tmp_path)


WORDS = st.sampled_from(
    ["name", "channels", "dependencies", "pip", "conda-forge", "python =3.12", "a[b=c]", "-r x", "~", "null", "a ; b"]
)
LEAVES = WORDS | st.text(max_size=20)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(LEAVES, inner, max_size=4))


def outcome(text: str, virtual: str = "") -> EnvironmentFile | DeployError:
    try:
        environment = parse_environment(text, virtual)
    except DeployError as error:
        assert "\n" not in error.problem
        return error
    assert len(environment.digest) == 64
    return environment


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    outcome(text)
    outcome(TEXT, text)


@given(TREES, TREES)
@settings(max_examples=60)
def test_any_tree_is_read_or_refused(channels: object, dependencies: object) -> None:
    outcome(yaml.safe_dump({"channels": channels, "dependencies": dependencies}, allow_unicode=True))
    outcome(yaml.safe_dump({"channels": ["c"], "dependencies": ["python", {"pip": dependencies}]}))
    outcome(TEXT, yaml.safe_dump({"subdirs": {"linux-64": dependencies}}))
