"""The texts that start an adopted release again: the very command line, as that user, in that folder, with that log.

launch.sh is a shell script around a few lines of Python: a shell can neither pass on names such as BASH_FUNC_x%% nor
bytes that are no text, and what it sets for a command shows in /proc.
"""

from __future__ import annotations

import os
import shlex

from ansible_collections.deployer.sglang.plugins.module_utils.adoption.family import is_shell
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.release import RELEASE_VARIABLE, Release
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store

START = r"""
import json, os, resource, signal, sys

folder, variable, identifier = sys.argv[1:]


def text_of(name):
    with open(os.path.join(folder, name), encoding="utf-8") as stream:
        return json.load(stream)


def raw(text):
    return text.encode("utf-8", "surrogateescape")


def number(limit):
    return resource.RLIM_INFINITY if limit == "unlimited" else int(limit)


def limit(which, words):
    soft, hard = map(number, words)
    try:
        resource.setrlimit(which, (soft, hard))
    except (OSError, ValueError):  # only root may raise a hard limit
        top = resource.getrlimit(which)[1]
        unlimited = resource.RLIM_INFINITY
        lower = top if soft == unlimited else soft if top == unlimited else min(soft, top)
        resource.setrlimit(which, (lower, top))


def output(path, descriptor):
    try:
        opened = os.open(raw(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        print(f"{path} cannot be opened, its output goes where this line does: {error}", file=sys.stderr, flush=True)
        return
    os.dup2(opened, descriptor)
    os.close(opened)


def find(word, path):
    for place in path.split(":") if "/" not in word else [""]:
        candidate = os.path.join(place, word)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    return ""


release, private = text_of("release.json"), text_of("private.json")
adopted = release["adopted"]
argv = [private["argv"].get(str(at), word) for at, word in enumerate(release["argv"])]
variables = {**release["variables"], **private["variables"], variable: identifier}
limit(resource.RLIMIT_NOFILE, adopted["limits"]["nofile"])
limit(resource.RLIMIT_MEMLOCK, adopted["limits"]["memlock"])
try:
    os.setpriority(os.PRIO_PROCESS, 0, adopted["nice"])
except OSError:  # only root may lower it
    pass
if adopted["cpus"]:
    os.sched_setaffinity(0, adopted["cpus"])
if os.geteuid() == 0 and adopted["uid"] != 0:
    os.setgroups(adopted["groups"])
    os.setgid(adopted["gid"])
    os.setuid(adopted["uid"])
if os.geteuid() != adopted["uid"]:
    sys.exit("this release runs as " + release["user"] + ": start it as that user, or as root")
os.umask(int(adopted["umask"], 8))
os.chdir(raw(release["working_directory"]))
null = os.open(os.devnull, os.O_RDONLY)
os.dup2(null, 0)
log = adopted["log"]
if log["stderr"] and log["stderr"] != log["stdout"]:
    output(log["stderr"], 2)
if log["stdout"]:
    output(log["stdout"], 1)
if log["stderr"] and log["stderr"] == log["stdout"]:
    os.dup2(1, 2)
# Python ignores these, and so would the program.
for one in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(one, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_IGN if adopted["ignores_hangup"] else signal.SIG_DFL)
program = adopted["program"]
if not os.access(program, os.X_OK):
    program = find(argv[0], variables.get("PATH", os.defpath)) or adopted["executable"]
os.execve(raw(program), [raw(word) for word in argv], {raw(name): raw(value) for name, value in variables.items()})
"""


def launch_text(release: Release, identifier: str, interpreter: str) -> str:
    """launch.sh; it names no secret, and needs nothing but the host's own Python.

    Args:
        release: what is to be started.
        identifier: its id, '' for the text that the id is a digest of.
        interpreter: a Python that stays where it is.
    """
    folder = Store(release.root).service(release.service).release(identifier)
    log = release.adopted["log"]
    about = [
        "#!/bin/sh",
        f"# Service {release.service}, release {identifier}: what was found serving port {release.port}.",
        "# Written by the deployment. It starts exactly that again:",
        f"#   as          {_line(release.user)}",
        f"#   in          {_line(release.working_directory)}",
        f"#   command     {' '.join(_line(word) for word in release.argv)}",
        f"#   program     {_line(release.adopted['program'])}",
        f"#   output to   {_line(log['stdout']) or 'its supervisor'}",
        f"#   errors to   {_line(log['stderr']) or 'its supervisor'}",
    ]
    if foreign_unit(release):
        return "\n".join([*about, "set -eu", f"exec systemctl start {shlex.quote(foreign_unit(release))}", ""])
    lines = [
        *about,
        "# The environment variables are those of release.json and private.json, no others. What others must not read",
        "# (***) is in private.json.",
        "set -eu",
        f"exec {shlex.quote(interpreter)} -I -S -c {shlex.quote(START)} \\",
        f"    {shlex.quote(folder)} {RELEASE_VARIABLE} {shlex.quote(identifier)}",
        "",
    ]
    return "\n".join(lines)


def unit_text(release: Release) -> str:
    """The unit of an adopted release: kept alive as every other, and run as it ran. The host's own stays its own."""
    if foreign_unit(release):
        return f"# This release is {foreign_unit(release)}, which is the host's own and stays as it is.\n"
    adopted = release.adopted
    groups = " ".join(map(str, adopted["groups"]))
    nofile, memlock = (":".join(_infinity(one) for one in adopted["limits"][name]) for name in ("nofile", "memlock"))
    place = Store(release.root).service(release.service).path
    lines = [
        f"# Written by the deployment of service {release.service}, which found this running: {place}/current",
        "[Unit]",
        f"Description={release.service}: adopted, on port {release.port}",
        "After=network-online.target nvidia-persistenced.service",
        "Wants=network-online.target",
        f'RequiresMountsFor={release.root} "{_escaped(release.working_directory)}"',
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        *(
            ["# Makes /dev/nvidia-uvm after a boot.", "ExecStartPre=+-/usr/bin/nvidia-modprobe -u -c=0"]
            * bool(release.gpus)
        ),
        f"User={adopted['uid']}",
        f"Group={adopted['gid']}",
        *([f"SupplementaryGroups={groups}"] if groups else []),
        f"ExecStart={place}/current/launch.sh",
        f"SyslogIdentifier={release.service}",
        "Restart=always",
        "RestartSec=5",
        # A shell that ran the engine would be ended before it: then all of them are asked to end.
        f"KillMode={'control-group' if is_shell([adopted['program']]) else 'mixed'}",
        f"TimeoutStopSec={release.stop_timeout}",
        "SuccessExitStatus=143 137",
        f"LimitNOFILE={nofile}",
        f"LimitMEMLOCK={memlock}",
        f"Nice={adopted['nice']}",
        *([f"CPUAffinity={' '.join(map(str, adopted['cpus']))}"] if adopted["cpus"] else []),
        f"UMask={adopted['umask']}",
        "# No sandbox: it was started by hand without one, and has to run just so.",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
    return "\n".join(lines)


def foreign_unit(release: Release) -> str:
    """The host's own unit that an adopted release is; '' where it is none."""
    kind, _, unit = release.supervisor.partition(":")
    return unit if kind == "unit" else ""


def _line(text: str) -> str:
    """A word for a comment: one line, whatever it holds."""
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shlex.quote(shown) if shown else ""


def _infinity(limit: str) -> str:
    return "infinity" if limit == "unlimited" else limit


def _escaped(path: str) -> str:
    """A path in quotes of a unit (systemd.unit(5), specifiers; systemd.syntax(7), quoting).

    Raises:
        DeployError: it would end the line, and whoever made that folder would write the next one, as root.
    """
    if not path.isprintable():
        raise DeployError(f"the path {path!r} holds control characters", "start the service from another folder")
    return os.path.normpath(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
