"""What all commands share: the same words, their help, and how errors are said."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.cli import main as cli
from deployer.cli.command_line import CHOSEN, OF_THE_CALL, Options, errors_said, on_hosts

RUNNER = CliRunner()
HEAVY = (
    "pydantic",
    "ansible",
    "ansible_runner",
    "jinja2",
    "yaml",
    "httpx",
    "cryptography",
    "huggingface_hub",
    "rattler",
)
VERBS = {
    *("plan", "doctor", "rollout", "rollback", "status", "logs", "history", "adopt", "verify", "environments"),
    *("lock", "bundle", "prune", "init", "manifest", "report"),
}


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with the words that it is called by."""
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(one, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path), command


ALL = dict(commands(typer.main.get_command(cli.app)))
ON_HOSTS = {name: one for name, one in ALL.items() if any("--limit" in param.opts for param in one.params)}


def run(words: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployer", *words]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_every_verb_is_there() -> None:
    assert {name.split()[0] for name in ALL} >= VERBS


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_command_has_an_example_and_its_exit_codes(name: str) -> None:
    said = " ".join((ALL[name].help or "").split())
    called = "lock" if name == "lock environment" else name
    assert f"Example: python -m deployer {called}" in said
    assert "Exit codes: 0" in (ALL[name].epilog or "")


def test_the_same_word_means_the_same_everywhere() -> None:
    """`lock NAME --check` and `init` are about something else than a fleet that is described, and say so themselves."""
    meanings: dict[str, set[tuple[Any, ...]]] = {}
    for one in ON_HOSTS.values():
        for param in one.params:
            for word in param.opts:
                if word.startswith("-"):
                    default = "its own" if word == "--into" else repr(param.default)
                    meanings.setdefault(word, set()).add((param.name, param.help, tuple(param.opts), default))
    assert {word: what for word, what in meanings.items() if len(what) > 1} == {}


def test_every_command_on_hosts_has_the_options_of_all() -> None:
    fields = set(inspect.signature(Options).parameters) - CHOSEN - {*OF_THE_CALL}
    assert {"plan", "rollout", "status", "history", "prune", "lock status"} <= set(ON_HOSTS)
    for name, one in ON_HOSTS.items():
        assert fields <= {param.name for param in one.params}, name


@pytest.mark.parametrize("words", [["--help"], ["rollout", "--help"], ["status", "--help"], ["--version"]])
def test_help_imports_nothing_slow(words: list[str]) -> None:
    program = (
        f"import sys; sys.argv = ['deployer', *{words!r}]\n"
        "from deployer.cli.main import main\n"
        "try: main()\n"
        f"finally: print('IMPORTED', sorted({{one.split('.')[0] for one in sys.modules}} & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "IMPORTED []" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("words", [["rollout", "-h"], ["lock", "release", "--help"], ["lock", "--help"]])
def test_the_help_of_a_verb_is_the_same_by_either_way(words: list[str], tmp_path: Path) -> None:
    asked = run(words, tmp_path)
    plain = run(["-v", *words], tmp_path)
    assert asked.returncode == plain.returncode == 0 and "-h, --help" in asked.stdout
    assert asked.stdout == plain.stdout.replace("deployer -v", "deployer")


def test_the_shell_completes_verbs_and_options(tmp_path: Path) -> None:
    surroundings = {"_DEPLOYER_COMPLETE": "complete_bash"}
    done = run([], tmp_path, **surroundings, COMP_WORDS="deployer ro", COMP_CWORD="1")
    assert done.stdout.split() == ["rollout", "rollback"]
    done = run([], tmp_path, **surroundings, COMP_WORDS="deployer plan --vault", COMP_CWORD="2")
    assert set(done.stdout.split()) == {"--vault-password-file", "--vault-id"}


def test_options_become_words_and_what_is_behind_the_dashes_comes_last() -> None:
    options = Options(
        inventory=["a.yml"],
        limit="h1",
        extra_vars=["x=1", "@f"],
        check=True,
        vault_password_file=["v"],
        vault_id=["prod@w"],
        become_password_file="b",
        connection_password_file="c",
        words=("--forks", "9"),
    )
    invocation = options.invocation({"deep": True})
    assert (list(invocation.inventory), invocation.limit, invocation.check) == (["a.yml"], "h1", True)
    assert " ".join(invocation.arguments) == (
        "-e x=1 -e @f --vault-password-file v --vault-id prod@w --become-password-file b "
        "--connection-password-file c --forks 9"
    )
    assert invocation.extra_vars["deep"] is True and "@" in invocation.extra_vars["cutover_initiator"]
    assert options.deployer.arguments == invocation.arguments


@pytest.mark.parametrize("word", ["-K", "-k", "-J", "--ask-become-pass", "--ask-pass", "--ask-vault-pass"])
def test_without_a_terminal_no_password_is_asked_for(word: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").touch()
    done = subprocess.run(
        [sys.executable, "-m", "deployer", "plan", "-i", "hosts.yml", word],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 2 and "there is no terminal" in said and "--become-password-file" in said


@pytest.mark.parametrize(
    ("verbose", "expected"), [(False, "x: no. Fix: do (-v says more)\n"), (True, "Fix: do\nall of it\n")]
)
def test_what_is_known_is_said_in_a_line_and_the_rest_with_v(
    verbose: bool, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, errors_said("x", verbose):
        raise DeployError("no", "do", "all of it")
    assert ended.value.exit_code == 2
    assert expected in capsys.readouterr().err


def test_ctrl_c_ends_a_command_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, errors_said("plan"):
        raise KeyboardInterrupt
    assert ended.value.exit_code == 2 and capsys.readouterr().err.startswith("plan: interrupted")


@pytest.mark.parametrize("words", [["boom"], ["boom", "-v"], ["-v", "boom"]])
def test_what_nobody_foresaw_is_a_defect_and_says_so(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(cli.options)

    @app.command()
    @on_hosts()
    def boom(options: Options) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["deployer", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == cli.DEFECT not in range(5)
    assert said.splitlines()[-1].startswith(
        "unexpected: ZeroDivisionError: by zero; this is a defect, please report it"
    )
    assert ("Traceback" in said) == (len(words) == 2)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            OSError(28, "No space left on device", ".deployer/runs/x"),
            ".deployer/runs/x: no space is left. Fix: make room",
        ),
        (PermissionError(13, "Permission denied", "fleet"), "fleet: permission denied. Fix: run it as a user who may"),
        (DeployError("no", "do"), "deployer: no. Fix: do"),
        (
            ModuleNotFoundError("No module named 'jinja2'", name="jinja2"),
            "a library is missing: No module named 'jinja2'",
        ),
    ],
)
def test_what_the_controller_cannot_do_is_no_defect(
    error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and expected in line
