"""What Ansible said, as a problem that an operator can do something about: what is wrong, where, and the fix.

Pure functions over messages. Every pattern was seen in the words of a real run; tests/recordings/ansible has them.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.runs.problem_rules import CONTROLLER, HOST, Rule

GROUP = "gpu-nodes"
KILLED = 254  # ansible-runner's status for ansible-playbook that a signal ended
FIX = "Fix: "  # what our own messages have, which need no explanation
# What Ansible puts before the reason.
PREFIX = re.compile(
    r"^(?:on \S+: |Task failed: |Finalization of task args for '[^']+' failed: "
    r"|Error while resolving value for '[^']+': |Error rendering template: )+"
)
UNASKED = "the host could not be asked: "  # a module's answer that was no answer, whose cause we may know better
UNMATCHED = re.compile(r"Could not match supplied host pattern, ignoring: (.+)")
ERROR = re.compile(r"^(?:\[ERROR\]: |ERROR! |ansible-playbook: error: )(.*)$", re.MULTILINE)
PARSED = re.compile(r"Failed to parse inventory with '(\w+)' plugin: (.+)")
TYPE = re.compile(r"\"<class '(?:\S+Tagged|\S*\.)?(\w+)'>\"")  # as Ansible calls the type of a value
ORIGIN = re.compile(r"^Origin: (?!<)(.+?:\d+:\d+)$", re.MULTILINE)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
LONGEST = 300  # characters of a message that nobody knows


@dataclass(frozen=True)
class Problem:
    """Something that went wrong and was to be foreseen.

    Args:
        kind: stable, such as `ssh-refused`.
        what: what is wrong, in one line.
        where: the host, file or option; '' where `what` says it.
        fix: what to do about it, in one line.
        detail: Ansible's own words.
    """

    kind: str
    what: str
    where: str = ""
    fix: str = ""
    detail: str = ""

    def line(self) -> str:
        """All of it in one line, but for the detail."""
        return str(DeployError(f"{self.where}: {self.what}" if self.where else self.what, self.fix))

    def error(self) -> DeployError:
        """The same as an exception."""
        return DeployError(f"{self.where}: {self.what}" if self.where else self.what, self.fix, self.detail)


def of_host(message: str, host: str = "") -> Problem | None:
    """The problem of a host that a task's message is about; None where it is none of those that are known.

    Args:
        message: as the task gave it, with what the module wrote to its standard error where it said nothing else.
        host: as the inventory names it.
    """
    if FIX in message and UNASKED not in message:
        return None
    return _known(HOST, message, host)


def short(message: str, host: str = "") -> str:
    """A host's failure in one line: what and what to do, without the host's name.

    Args:
        message: `HostResult.failure`.
        host: as the inventory names it, for commands that the fix names.
    """
    problem = of_host(message, host)
    if problem is not None:
        return str(DeployError(problem.what, problem.fix))
    lines = [PREFIX.sub("", line.strip()) for line in message.splitlines() if line.strip()]
    first = lines[0] if lines else "failed without a message"
    return first if len(first) <= LONGEST else f"{first[: LONGEST - 1]}…"


def mistakes(message: str, host: str = "") -> list[str]:
    """A host's failure in as many lines as it has mistakes with a fix, as of a description; in one where it has none.

    Args:
        message: `HostResult.failure`.
        host: as the inventory names it.
    """
    ours = [line for line in told(message, host).splitlines() if FIX in line]
    return ours if len(ours) > 1 else [short(message, host)]


def told(message: str, host: str = "") -> str:
    """A host's failure for people: one line where the problem is known, else all that was said, without what Ansible
    puts before it. A description may have several mistakes, a line each.

    Args:
        message: `HostResult.failure`.
        host: as the inventory names it.
    """
    if of_host(message, host) is not None:
        return short(message, host)
    return "\n".join(PREFIX.sub("", line) for line in message.splitlines())


def of_run(output: str, status: int, limit: str = "") -> Problem:
    """Why a playbook met no host, or did not come to its end: there is always a reason.

    Args:
        output: all that ansible-playbook printed.
        status: its exit status.
        limit: the pattern that it was given.
    """
    found = ERROR.search(output)
    said = output[found.start(1) :] if found else ""
    if "Completely failed to parse inventory source" in said:
        # The variables of the command line are read with each inventory.
        given = [rule for rule in CONTROLLER if rule.kind in ("file-missing", "extra-vars")]
        return _known(given, output, "", output) or _inventory(output, said)
    known = _known(CONTROLLER, said or (output if status else ""), "", output)
    if known is not None:
        return known
    missing = unmatched(output)
    if "leaves us with no hosts" in said or missing:
        return no_match(limit, missing, output)
    if "No inventory was parsed" in output and not said:
        what = "no inventory was given, or it cannot be read, and ansible.cfg names none here"
        return Problem("no-inventory", what, "", "give -i hosts.yml, or write one: python -m deployer init", output)
    if GROUP in UNMATCHED.findall(output) and not said:
        what = f"the inventory has no host in the group {GROUP}"
        return Problem("no-group", what, "", f"put the hosts below the group {GROUP}", output)
    if status == KILLED:
        what = "ansible-playbook was killed before its end"
        fix = "look for why (journalctl -k: mostly the kernel, for want of memory), then run it again"
        return Problem("killed", what, "the controller", fix, output)
    first = (said or _last(output)).partition("\n")[0]
    what = f"Ansible ended before its work was done: {first}" if first else "ansible-playbook said nothing"
    return Problem("ansible", what, "", "", output)


def no_match(limit: str, names: Sequence[str], output: str = "") -> Problem:
    """That a limit, or a part of it, matches no host.

    Args:
        limit: as it was given.
        names: the parts that match nothing.
        output: all that ansible-playbook printed.
    """
    what = f"{', '.join(names) or 'this'} matches no host of the inventory"
    fix = "name hosts or groups of the inventory: ansible-inventory --graph -i hosts.yml lists them"
    return Problem("limit", what, f"-l {limit}" if limit else "the limit", fix, output)


def unmatched(output: str) -> tuple[str, ...]:
    """The parts of a limit that match no host, which Ansible only warns of."""
    return tuple(dict.fromkeys(name for name in UNMATCHED.findall(output) if name != GROUP))


def of_os_error(error: OSError, doing: str = "") -> Problem | None:
    """The problem on the controller that an error of the system stands for; None for one that is a defect of ours.

    Args:
        error: as it was raised.
        doing: what could not be done, such as `the journal of this run cannot be written`.
    """
    name = str(error.filename) if error.filename else ""
    where = name or "the controller"
    before = f"{doing}: " if doing else ""
    if error.errno in DISK_FULL:
        room = f"make room on the file system of {name}" if name else "make room: df -h . $HOME ${TMPDIR:-/tmp}"
        return Problem("disk-full", f"{before}no space is left", where, room, str(error))
    if error.errno in NOT_WRITABLE:
        what = f"{before}{(error.strerror or 'not allowed').lower()}"
        return Problem("not-allowed", what, where, "run it as a user who may, or from a folder of your own", str(error))
    if error.errno == errno.EMFILE:
        return Problem("files", f"{before}too many open files", where, "raise the limit: ulimit -n 4096", str(error))
    return None


def _known(rules: Sequence[Rule], message: str, host: str, output: str = "") -> Problem | None:
    for rule in rules:
        found = rule.pattern.search(message)
        if found:
            said = {key: (value or "").strip() for key, value in found.groupdict().items()}
            values = {"host": host or "the host", "to": host or "HOST", **said}
            where = said.get("where", host)
            return Problem(
                rule.kind, rule.what.format_map(values), where, rule.fix.format_map(values), output or message
            )
    return None


def _inventory(output: str, said: str) -> Problem:
    """An inventory that no plugin could read: what the one for its kind of file said, and in which line."""
    path = said.partition("inventory source ")[2].partition("\n")[0].strip()
    reasons: dict[str, str] = {}
    for plugin, reason in PARSED.findall(output):
        if "no root 'plugin' key" not in reason:
            reasons.setdefault(
                plugin, reason.removeprefix("Failed to parse inventory: ").removeprefix("YAML parsing failed: ")
            )
    is_yaml = path.endswith((".yml", ".yaml", ".json"))
    reason = reasons.get("yaml" if is_yaml else "ini") or next(iter(reasons.values()), "it is no inventory")
    reason = TYPE.sub(lambda found: f"a {found[1].lower()}", reason)
    place = next((one for one in ORIGIN.findall(output) if one.startswith(f"{path}:")), path)
    fix = "mend that line" if place != path else "mend the file"
    fix += "; ansible-inventory --list -i FILE tries it"
    return Problem("inventory", f"cannot be read as an inventory: {reason}", place, fix, output)


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else ""
