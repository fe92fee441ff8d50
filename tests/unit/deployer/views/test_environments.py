"""What an operator is shown of the environments on the hosts."""

from __future__ import annotations

import io
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ansible_collections.deployer.sglang.plugins.module_utils.description_problems import NAME
from deployer.views.environments import entry_name, fold, print_environments, short, size_text

SGLANG = {"sglang": "0.4.9.post2", "torch": "2.7.1+cu126", "transformers": "4.53.0"}
FACTORY = {"llamafactory": "0.9.3", "torch": "2.7.1", "transformers": "4.52.4"}


def environment(path: str = "/home/me/miniconda3/envs/sglang", **facts: Any) -> dict[str, Any]:
    """An environment as the module returns it."""
    versions = facts.get("versions", {})
    used = {"services": [], "processes": [], "process_count": 0, **facts.pop("used_by", {})}
    return {
        "path": path,
        "short_path": path.replace("/home/me", "~me"),
        "aliases": [],
        "kind": "conda",
        "owner": "me",
        "name": path.rpartition("/")[2],
        "digest": "",
        "finished": True,
        "python": "3.11.9",
        "versions": {},
        "editable": {},
        "cuda": "12.6" if "torch" in versions else "",
        "packages": 200,
        "conda_packages": 30,
        "suits": [engine for engine in ("sglang", "llamafactory") if engine in versions],
        "open_to_all": True,
        "size": 10 * 2**30,
        "shared_bytes": 0,
        "used_by": used,
        "problem": "",
        **facts,
    }


def result(*environments: dict[str, Any], truncated: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"environments": list(environments), "total_bytes": 1, "user": "root", "truncated": list(truncated)}


def view(found: dict[str, Any], width: int = 80, terminal: bool = True, **arguments: Any) -> str:
    console = Console(width=width, record=True, force_terminal=terminal, file=io.StringIO())
    print_environments(console, found, **arguments)
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def test_an_environment_is_a_row_that_is_read_in_80_columns() -> None:
    used = {
        "services": [{"service": "code2sql", "release": "abc", "as": "current"}],
        "processes": [{"pid": 7, "user": "me", "command": "python -m llamafactory.cli"}],
        "process_count": 3,
    }
    text = view({"gpu1": result(environment(versions={**SGLANG, **FACTORY}, used_by=used))})
    rows = [line for line in text.splitlines() if "~me" in line or "conda " in line]
    assert rows[0].split() == ["~me/…/envs/sglang", "3.11.9", "0.4.9.post2", "2.7.1", "4.52.4", "code2sql"]
    assert rows[1].split() == ["conda", "10.0G", "0.9.3", "12.6", "3", "processes"]
    assert max(map(len, text.split("To serve")[0].splitlines())) <= 80


@pytest.mark.parametrize("role", ["adopted", "previous", "predecessor"])
def test_an_environment_that_no_current_release_uses_says_which_one_does(role: str) -> None:
    used = {
        "services": [{"service": "code2sql", "release": "abc", "as": role}],
        "processes": [],
        "process_count": 0,
    }
    assert f"({role})" in view({"gpu1": result(environment(versions=SGLANG, used_by=used))}, width=120)


def test_what_can_be_named_is_there_to_be_copied() -> None:
    found = {
        "gpu1": result(
            environment(versions=SGLANG),
            environment("/data/shared/conda/envs/with/a/long/path/for/eighty/columns/SGLang 2", versions=SGLANG),
            environment("/data/shared/conda/envs/with/a/path/too/long/for/eighty/columns/sglang", versions=SGLANG),
            environment("/opt/inference/artifacts/environments/a-1", versions=SGLANG, kind="deployer"),
            environment("/opt/conda", name="base", versions=FACTORY),
            environment("/opt/conda/envs/other"),
        )
    }
    text = view(found)
    copied = text[text.index("inference_environments:") : text.index("note")]
    assert yaml.safe_load(copied) == {
        "inference_environments": {
            "sglang": {"prefix": "/data/shared/conda/envs/with/a/path/too/long/for/eighty/columns/sglang"},
            "sglang-2": {"prefix": "/home/me/miniconda3/envs/sglang"},
            "llamafactory": {"prefix": "/opt/conda"},
        }
    }
    assert "an inventory cannot name it" in text


def test_hosts_that_have_the_same_are_one_row() -> None:
    several = {f"gpu{number}": result(environment(versions=SGLANG, size=2**30 * number)) for number in range(1, 301)}
    assert [one.hosts for one in fold(several)] == [tuple(several)]
    text = view(several)
    assert "all 300 hosts" in text
    assert "300.0G" in text
    assert len(text.splitlines()) < 20
    several["gpu7"] = result(environment(versions={**SGLANG, "sglang": "0.5.3"}))
    text = view(several)
    assert "conda, gpu1, gpu2 and 29…" in text
    assert "on gpu1, gpu2, gpu3, gpu4 and 295 more" in text
    assert "300 hosts: 300 environments; sglang 0.4.9.post2, 0.5.3; no llamafactory" in text


def test_engines_come_first_and_what_is_wrong_is_said_below() -> None:
    broken = environment("/opt/conda/envs/aaa", problem="bin/python is missing: removed by half", python="")
    private = environment(versions=SGLANG, open_to_all=False, editable={"sglang": "/home/me/sglang/python"})
    text = view({"gpu1": result(broken, private, truncated=("3 homes cannot be read by deploy",)), "gpu2": result()})
    assert text.index("~me/…/envs/sglang") < text.index("/opt/conda/envs/aaa")
    assert "problem  /opt/conda/envs/aaa on gpu1\n         bin/python is missing: removed by half" in text
    assert "note     ~me/miniconda3/envs/sglang on gpu1\n         sglang is run from /home/me/sglang/python" in text
    assert "not every user can read it" in text
    assert "limited  gpu1\n         3 homes cannot be read by deploy" in text
    assert "2 hosts: 2 environments; sglang 0.4.9.post2; no llamafactory" in text


def test_an_environment_under_way_is_not_proposed() -> None:
    text = view({"gpu1": result(environment(versions=SGLANG, finished=False, problem="not finished"))})
    assert "unfinished" in text
    assert "inference_environments:" not in text


def test_hosts_that_could_not_be_asked_are_told_with_the_reason() -> None:
    text = view({"gpu1": result()}, failures={"gpu2": "no route", "gpu3": "no route"})
    assert "not asked  gpu2, gpu3\n         no route" in text
    assert "3 hosts: 0 environments; no sglang; no llamafactory; 2 could not be asked" in text
    assert "0 hosts" in view({})


def test_a_program_gets_whole_lines() -> None:
    text = view({"gpu1": result(environment(versions=SGLANG, open_to_all=False))}, width=80, terminal=False)
    assert any(len(line) > 80 and "not every user" in line for line in text.splitlines())


def test_markup_and_control_characters_of_a_host_are_shown_as_they_are() -> None:
    hostile = environment("/home/me/[red]x\x1b[2J", problem="[/] \x07bad", versions={"sglang": "[bold]1"}, cuda="[/]")
    text = view({"[b]host": result(hostile), "h2": result()})
    assert "[red]x?[2J" in text
    assert "[/] ?bad" in text
    assert "\x07" not in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_rows_stay_aligned(width: int) -> None:
    found = {f"gpu{n}.some.long.domain.example.com": result(environment(versions=SGLANG)) for n in range(3)}
    found["other"] = result(environment("/very" * 40 + "/long", versions=SGLANG))
    table = view(found, width).split("To serve")[0]
    assert width < 80 or ("~me/miniconda3/envs/sglang" in table) == (width > 80)
    assert max(map(len, table.splitlines())) <= width


@given(st.text(min_size=1, max_size=80), st.integers(10, 40))
def test_a_shortened_text_is_no_longer_than_asked(text: str, width: int) -> None:
    assert len(short(text, width)) <= max(width, 1)


def test_a_shortened_path_keeps_its_ends() -> None:
    assert short("~me/miniconda3/envs/sglang", 25) == "~me/…/envs/sglang"
    assert short("/data/a/b/c/d/e/f/envs/sglang", 25) == "/data/…/d/e/f/envs/sglang"
    assert short("~alice/projects/LLaMA-Factory/.venv", 25) == "…/LLaMA-Factory/.venv"
    assert short("/opt/conda", 25) == "/opt/conda"
    assert short("/" + "x" * 60, 10).startswith("…xxx")


@given(st.text(max_size=60), st.sets(st.sampled_from(["sglang", "sglang-2", "a"])))
def test_a_proposed_name_is_one_that_the_description_takes(name: str, taken: set[str]) -> None:
    proposed = entry_name({"name": name, "suits": ["sglang"]}, taken)
    assert NAME.fullmatch(proposed)
    assert proposed not in taken


def test_sizes_are_short() -> None:
    assert [size_text(size) for size in (0, 3 * 2**20, 2**30, 98 * 2**30)] == ["0M", "3M", "1.0G", "98.0G"]
