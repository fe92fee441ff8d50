"""What Ansible, ssh and sudo said in real runs (tests/recordings/ansible), told in one line with the fix."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from deployer.runs import problems

RECORDINGS = Path(__file__).parents[3] / "recordings" / "ansible"
HOSTS: dict[str, dict[str, str]] = json.loads((RECORDINGS / "hosts.json").read_text())
RUNS: dict[str, dict[str, Any]] = json.loads((RECORDINGS / "runs.json").read_text())

# case -> kind, words of what is wrong, words of the fix
ON_HOSTS = {
    "refused": ("ssh-refused", "nobody listens at 127.0.0.1 port 22299", "ansible_port"),
    "timeout": ("ssh-timeout", "127.0.0.1 port 22333 does not answer", "firewall"),
    "no-route": ("ssh-no-route", "no way to 255.255.255.255 (Network is unreachable)", "VPN"),
    "no-route-at-all": ("ssh-no-route", "no way to 2001:db8::1 (No route to host)", "VPN"),
    "unresolved": ("ssh-unresolved", "no address is known for gpu1.no-such-host.invalid", "ansible_host"),
    "no-banner": ("ssh-silent", "does not speak SSH in time", "see that `ssh gpu1` answers"),
    "closed": ("ssh-closed", "hangs up before the login", "MaxStartups"),
    "wrong-key": ("ssh-denied", "does not let probe-free log in (it takes publickey)", "ansible_ssh_private_key_file"),
    "unknown-user": ("ssh-denied", "does not let nobody-here log in", "ansible_user"),
    "no-key-file": ("ssh-key-missing", "no private key /home/me/absent on the controller", "ansible_ssh_private_key"),
    "open-key": ("ssh-key-open", "others can read (mode 0644)", "chmod 600 /home/me/open"),
    "unknown-key": ("host-key-unknown", "not known yet (ED25519, [127.0.0.1]:22221)", "known_hosts"),
    "changed-key": (
        "host-key-changed",
        "not the one that is known, which /home/me/known2:1 has: somebody may be in between",
        'only if it was set up anew: ssh-keygen -f "/home/me/known2" -R "[127.0.0.1]:22222"',
    ),
    "reset": ("ssh-closed", "Connection reset by", "MaxStartups"),
    "lost-midway": ("ssh-lost", "closed by remote host", "run it again"),
    "sending-refused": ("ssh-refused", "nobody listens at 127.0.0.1 port 22299", "ansible_port"),
    "sending-unresolved": ("ssh-unresolved", "no address is known for gpu1.no-such-host.invalid", "ansible_host"),
    "sending-no-banner": ("ssh-silent", "does not speak SSH in time", "ansible_port"),
    "sending-wrong-key": ("ssh-denied", "does not let probe-free log in", "ansible_user"),
    "sending-unknown-key": ("host-key-unknown", "not known yet (ED25519, [127.0.0.1]:22221)", "known_hosts"),
    "sending-changed-key": ("host-key-changed", "which /home/me/known2:1 has", "ssh-keygen -f"),
    "no-ssh-program": ("ssh-missing", "the controller has no /usr/bin/no-ssh", "OpenSSH client"),
    "sudo-missing-password": ("become-password-missing", "sudo asks for a password there", "-K"),
    "sudo-missing-password-preflight": ("become-password-missing", "none was given", "--become-password-file"),
    "sudo-wrong-password": ("become-password-wrong", "sudo does not take the password", "-K"),
    "not-in-sudoers": ("become-not-allowed", "probe-plain may not become root there", "add probe-plain to its sudoers"),
    "not-in-sudoers-preflight": ("become-not-allowed", "probe-plain may not become root", "ansible_user"),
    "no-sudo": ("become-missing", "there is no /usr/bin/no-sudo on it", "ansible_become_method"),
    "no-python": ("python-missing", "no Python at /usr/bin/python9", "ansible_python_interpreter"),
    "old-python": ("python-old", "its Python 3.7.3 is too old", "Python 3.9 or newer"),
    "old-python-preflight": ("python-old", "its Python 3.7.3 is too old", "ansible_python_interpreter"),
    "remote-tmp": ("remote-tmp", "cannot write to /proc/x there", "ansible_remote_tmp"),
    "host-disk-full": ("host-disk-full", "its disk is full", "df -h"),
    "disk-full-home": ("disk-full", "the controller's disk is full", "${TMPDIR:-/tmp}"),
    "inline-vault-no-password": ("vault", "encrypted by another vault password, or none was given", "-J"),
    "inline-vault-wrong": ("vault", "encrypted by another vault password", "--vault-password-file"),
    "template-undefined": ("template-undefined", "inference_root", "ansible-inventory"),
    "template-in-services": ("template-undefined", "uses the variable 'no_port'", "define it"),
    "template-syntax": ("template", "cannot be read", "-v"),
    "template-filter": ("template", "cannot be read", "-v"),
    "template-syntax-in-services": ("template", "expected token 'end of print statement'", "-v"),
    "template-filter-in-services": ("template", "No filter named 'no_filter'", "-v"),
}

# case -> kind, words of the line
OF_RUNS = {
    "strict-bad.yml": ("inventory", "/home/me/fleet/bad.yml:6:11: cannot be read as an inventory: Colons in unquoted"),
    "strict-bad.ini": ("inventory", "/home/me/fleet/bad.ini: cannot be read as an inventory: not enough values"),
    "strict-struct.yml": (
        "inventory",
        'Invalid "hosts" entry for "gpu-nodes" group, requires a dictionary, found a list',
    ),
    "inventory-unreadable": ("inventory", "/home/me/secret.yml"),
    "no-inventory": ("no-inventory", "give -i hosts.yml, or write one: python -m deployer init"),
    "no-group": ("no-group", "no host in the group gpu-nodes"),
    "strict-list": ("no-group", "no host in the group gpu-nodes"),
    "limit-nothing": ("limit", "-l nope: nope matches no host of the inventory"),
    "limit-file": ("limit-file", "absent.retry: there is no such file of hosts"),
    "unknown-option": ("arguments", "--no-such-option: ansible-playbook does not know it"),
    "extra-vars-missing": ("file-missing", "/home/me/fleet/absent.yml: there is no such file"),
    "extra-vars-bad": ("extra-vars", "-e: is neither key=value nor YAML"),
    "group-vars-syntax": ("yaml", "a file of group_vars or host_vars is no YAML"),
    "group-vars-unreadable": ("unreadable", "/home/me/group_vars/all.yml: cannot be read: Permission denied"),
    "vault-no-password": ("vault-password-missing", "no vault password was given"),
    "vault-wrong-password": ("vault-password-wrong", "does not open the inventory's encrypted files"),
    "vault-missing-file": ("vault-file-missing", "/home/me/absent: there is no such file"),
    "vault-id-no-match": ("vault-file-missing", "/home/me/fleet/absent: there is no such file"),
    "vault-empty-file": ("vault-file-empty", "/home/me/vp3: the file has no vault password"),
    "vault-file-unreadable": (
        "vault-file-unreadable",
        "/home/me/vp: the vault password file cannot be read: Permission",
    ),
    "become-file-missing": ("password-file-missing", "/home/me/absent: there is no such file with a password"),
    "home-read-only": ("home", "/home/me/.ansible/tmp: Ansible's own folder cannot be made: Permission denied"),
    "home-unwritable": ("home", "/proc/nowhere/.ansible/tmp"),
    "playbook-missing": ("collection", "is not where ansible-playbook looks for collections"),
    "killed": ("killed", "ansible-playbook was killed before its end"),
}
GO_ON = {"limit-some": ("nope",), "exclude-nothing": ("nope",), "glob-nothing": ("gpu9*",)}


def message(case: str) -> str:
    return "\n".join(HOSTS[case][key] for key in ("msg", "module_stderr") if key in HOSTS[case])


def test_every_recording_is_looked_at() -> None:
    assert set(HOSTS) == set(ON_HOSTS)
    assert set(RUNS) == {*OF_RUNS, *GO_ON}


@pytest.mark.parametrize("case", sorted(ON_HOSTS))
def test_a_hosts_problem_is_known_with_a_fix(case: str) -> None:
    kind, what, fix = ON_HOSTS[case]
    problem = problems.of_host(message(case), "gpu1")
    assert problem is not None and problem.kind == kind and problem.where == "gpu1"
    assert what in problem.what and fix in problem.fix
    assert problem.detail == message(case)
    for text in (problem.line(), problems.short(message(case), "gpu1"), problems.told(message(case), "gpu1")):
        assert "\n" not in text and "\r" not in text and text.count("Fix: ") == 1
    assert problem.line() == f"gpu1: {problems.short(message(case), 'gpu1')}"


@pytest.mark.parametrize("case", sorted(OF_RUNS))
def test_why_a_run_met_no_host_is_known_with_a_fix(case: str) -> None:
    kind, words = OF_RUNS[case]
    limit = "nope" if case == "limit-nothing" else ""
    problem = problems.of_run(RUNS[case]["output"], RUNS[case]["status"], limit)
    line = problem.line()
    assert problem.kind == kind and words in line
    assert "\n" not in line and line.count("Fix: ") == 1
    assert problem.error().detail.strip() == RUNS[case]["output"].strip()


@pytest.mark.parametrize("case", sorted(GO_ON))
def test_a_part_of_a_limit_that_matches_nothing_is_found_though_ansible_goes_on(case: str) -> None:
    assert RUNS[case]["status"] == 0
    names = problems.unmatched(RUNS[case]["output"])
    assert names == GO_ON[case]
    assert f"-l h1,x: {names[0]} matches no host" in problems.no_match("h1,x", names).line()
    assert problems.unmatched(RUNS["no-group"]["output"]) == ()


@pytest.mark.parametrize(
    "said", ["sh: line 1: /usr/bin/sudo: No such file or directory", "sh: line 1: sudo: command not found"]
)
def test_bash_as_sh_says_it_in_other_words(said: str) -> None:
    assert "install sudo there" in problems.short(f"Module result deserialization failed\n/bin/{said}")


def test_what_was_said_with_a_fix_stays_as_it_is() -> None:
    """Our own modules name the fix themselves, whatever words are in what they say."""
    own = "the gate failed: Missing sudo password of the engine's log. Fix: look at the log"
    assert problems.of_host(own) is None
    assert problems.short(own) == problems.told(own) == own
    several = "a: is wrong. Fix: x\nb: is wrong. Fix: y"
    assert problems.told(several) == several and problems.short(several) == "a: is wrong. Fix: x"
    assert problems.mistakes(several) == several.splitlines()


def test_a_cause_that_is_known_better_takes_the_place_of_a_guess() -> None:
    guess = (
        "the host could not be asked: Module result deserialization failed; probe-plain is not in the sudoers file.. "
        "Fix: install Python 3.9 or newer on the host"
    )
    assert "may not become root" in problems.short(guess)


def test_a_message_that_nobody_knows_is_shown_without_what_ansible_puts_before_it() -> None:
    text = "on gpu1: Task failed: Finalization of task args for 'x.y' failed: Error while resolving value for 'a': odd"
    assert problems.of_host(text) is None
    assert problems.short(text) == problems.told(text) == "odd"
    assert problems.short("") == "failed without a message"
    assert len(problems.short("x" * 999)) == problems.LONGEST


@pytest.mark.parametrize(
    ("output", "status", "expected"),
    [
        ("[ERROR]: something odd\nmore of it\n", 1, "Ansible ended before its work was done: something odd"),
        ("one\ntwo\n", 5, "Ansible ended before its work was done: two"),
        ("", 1, "ansible-playbook said nothing"),
    ],
)
def test_an_end_that_nobody_knows_is_told_in_ansibles_words(output: str, status: int, expected: str) -> None:
    assert problems.of_run(output, status).line() == expected


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "disk-full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk-full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "not-allowed"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "not-allowed"),
        (OSError(errno.EMFILE, "Too many open files"), "files"),
    ],
)
def test_what_the_controller_lacks_is_named_with_the_file(error: OSError, kind: str) -> None:
    problem = problems.of_os_error(error, "the journal cannot be written")
    assert problem is not None and problem.kind == kind
    assert problem.line().startswith(f"{error.filename or 'the controller'}: the journal cannot be written: ")
    assert "Fix: " in problem.line()


def test_other_errors_of_the_system_are_defects() -> None:
    assert problems.of_os_error(OSError(errno.EBADF, "Bad file descriptor")) is None
