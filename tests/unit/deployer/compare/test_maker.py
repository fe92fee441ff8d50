"""Where the controller has a load made: by an environment here, or by one on a host that ssh reaches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.load import put_under_load
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.load_process import program
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import LoadSettings, Server
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import built_in
from deployer.compare.maker import Maker
from tests.unit.plugins.module_utils.measuring.benchmark import prefix, url

__all__ = ["prefix", "url"]

# Remembers which host it was to reach, and does there what it was told.
SSH = """#!/bin/sh
for word; do
  words="$words $command"
  command=$word
done
echo $words > "$(dirname "$0")/reached"
exec sh -c "$command"
"""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A double of ssh, first on the path; its folder."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "ssh").write_text(SSH)
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_a_load_is_made_on_a_host_that_ssh_reaches_and_a_key_stands_in_no_command_line(
    url: str, prefix: Path, ssh: Path
) -> None:
    maker = Maker(f"me@gpu1:{prefix}", ssh_config="/etc/its_config")
    # The tokenizer is a folder there, and not here.
    load = put_under_load(Server(url, "tells"), built_in(), LoadSettings((1.0,), 3), maker, "/only/there", "k1-secret")
    assert "OPENAI_API_KEY" in load.steps[0].requests[0].error.split()
    assert (ssh / "reached").read_text() == "-T -o BatchMode=yes -o ConnectTimeout=10 -F /etc/its_config me@gpu1\n"
    assert "k1-secret" not in " ".join(maker.argv(program()))
    assert load.tokenizer == "/only/there"


def test_a_host_that_lets_nobody_in_is_named_with_the_fix(url: str, ssh: Path) -> None:
    (ssh / "ssh").write_text("#!/bin/sh\necho 'me@gpu1: Permission denied (publickey).' >&2\nexit 255\n")
    with pytest.raises(DeployError, match=r"ssh gpu1: me@gpu1: Permission denied \(publickey\)") as raised:
        put_under_load(Server(url, "m"), built_in(), LoadSettings(), Maker("gpu1:/opt/conda"), "/m")
    assert raised.value.fix == "log in once by: ssh gpu1"


@pytest.mark.parametrize("greeting", ["Welcome\\n", "[1]\\n{}\\n\\n", "\\033]0;gpu1\\007", "\\377\\n"])
def test_what_a_login_prints_is_no_answer_of_the_benchmark(url: str, prefix: Path, ssh: Path, greeting: str) -> None:
    script = (ssh / "ssh").read_text()
    (ssh / "ssh").write_text(script.replace("exec sh", f"printf '{greeting}'\nexec sh"))
    load = put_under_load(Server(url, "m"), built_in(), LoadSettings((1.0,), 3), Maker(f"gpu1:{prefix}"), "/m")
    assert load.generator == "sglang.benchmark.serving of SGLang 0.5.23"
    assert [step.problem for step in load.steps] == [""]


def test_a_host_that_only_greets_has_measured_nothing(url: str, ssh: Path) -> None:
    (ssh / "ssh").write_text("#!/bin/sh\necho Welcome\n")
    with pytest.raises(DeployError, match="cannot be run by gpu1:/opt/conda: it ended with 0"):
        put_under_load(Server(url, "m"), built_in(), LoadSettings(), Maker("gpu1:/opt/conda"), "/m")


def test_a_host_that_does_not_read_its_order_is_given_up(url: str, ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.deployer.sglang.plugins.module_utils.measuring.load.STARTING", 0.5)
    (ssh / "ssh").write_text("#!/bin/sh\nexec sleep 600\n")
    settings = LoadSettings((1.0, 2.0, 4.0), requests=300)
    with pytest.raises(DeployError, match="the load has said nothing"):
        put_under_load(Server(url, "m"), built_in(), settings, Maker("gpu1:/opt/conda"), "/m")


@pytest.mark.parametrize("place", ["-oProxyCommand=x:/opt", "gpu1:relative", "gpu1 x:/opt"])
def test_what_is_no_host_with_a_folder_is_a_place_here(place: str) -> None:
    assert Maker(place).host == ""
    with pytest.raises(DeployError, match="there is no Python"):
        Maker(place).argv([])


def test_the_python_itself_may_be_named_as_well() -> None:
    for place in ("gpu1:/opt/conda", "gpu1:/opt/conda/", "gpu1:/opt/conda/bin/python"):
        assert Maker(place).argv(program())[-1].startswith("exec /opt/conda/bin/python -I -c ")


def test_an_environment_here_makes_a_load_with_what_is_kept_of_the_operators_variables(
    url: str, prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    load = put_under_load(Server(url, "tells"), built_in(), LoadSettings((1.0,), 3), Maker(str(prefix)), str(prefix))
    given = load.steps[0].requests[0].error.split()
    assert "HOME" in given and "AWS_SECRET_ACCESS_KEY" not in given


def test_what_is_not_there_is_refused_before_anything_is_started(prefix: Path, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="there is no Python"):
        Maker(str(tmp_path / "none")).check()
    # The folder that a server names is not taken: a tokenizer's own code would run.
    for tokenizer, problem in (("", "no folder is named"), ("/not/here", "no folder /not/here")):
        with pytest.raises(DeployError, match=problem):
            Maker(str(prefix)).tokenizer_at(tokenizer)
    assert Maker("gpu1:/opt/conda").tokenizer_at("/only/there") == "/only/there"
