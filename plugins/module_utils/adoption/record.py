"""Writes down what serves as a release: the same fields and files as of a staged one, and what else it takes.

What others must not read - secrets, and bytes that are no text - lies in PRIVATE_FILE, which only the service's user
can read. It is no part of the release's id: a key that was changed by hand since makes no other release of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.adoption import launching
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.secrets import (
    secret_values,
    secret_variables,
    shown_argv,
)
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.serving import Server
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.supervision import UNIT, Supervision
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    RELEASE_VARIABLE,
    Artifact,
    Release,
    StagedRelease,
    release_id,
)

PRIVATE_FILE = "private.json"
STOP_TIMEOUT = 120  # seconds, as of a described service
HOST_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Private:
    """What only the service's user may read: words of the command line by their place, variables by name."""

    argv: Mapping[str, str] = field(default_factory=dict, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def text(self) -> str:
        """As it lies in PRIVATE_FILE: ASCII, undecodable bytes as escaped surrogates."""
        return json.dumps({"argv": self.argv, "variables": self.variables}, sort_keys=True, indent=2) + "\n"


@dataclass(frozen=True)
class Record:
    """An adopted release, and what is not in its files for everybody."""

    staged: StagedRelease
    private: Private


def record_of(
    server: Server, supervision: Supervision, service: str, root: str, supervisor: str, served_name: str
) -> Record:
    """The release that `server` is; a pure function of its arguments.

    Args:
        server: what serves.
        supervision: who keeps it alive.
        service: the service's name.
        root: the deployment's root folder.
        supervisor: systemd or process: what is to keep it when a rollback starts it. A unit keeps itself.
        served_name: that /v1/models gives; '' where it gives none.
    """
    environ = {name: value for name, value in server.environ.items() if name != RELEASE_VARIABLE}
    secret = secret_variables(environ)
    hidden = secret | {name for name, value in environ.items() if not _is_text(name + value)}
    argv = [_as_text(word) for word in shown_argv(server.argv, secret_values(environ, secret))]
    private = Private(
        {str(at): word for at, word in enumerate(server.argv) if word != argv[at]},
        {name: environ[name] for name in sorted(hidden)},
    )
    found = server.recognised
    release = Release(
        service=service,
        engine=found.engine,
        argv=tuple(argv),
        variables={name: value for name, value in sorted(environ.items()) if name not in hidden},
        environment=_environment(server),
        model=_model(found.model_path, server.cwd),
        served_name=served_name,
        gpus=tuple(one.strip() for one in server.gpus.split(",") if one.strip()),
        host=server.address,
        port=server.port,
        supervisor=f"unit:{supervision.unit}" if supervision.kind == UNIT else supervisor,
        user=server.user.name,
        root=root,
        working_directory=_as_text(server.cwd),
        stop_timeout=STOP_TIMEOUT,
        adopted=_adopted(server, supervision, hidden),
    )
    interpreter = HOST_PYTHON if os.path.exists(HOST_PYTHON) else sys.executable
    unit = launching.unit_text(release)
    identifier = release_id(release, launching.launch_text(release, "", interpreter), unit)
    launch = launching.launch_text(release, identifier, interpreter)
    # A unit of the host's own has its secrets where it always had them.
    kept = Private() if supervision.kind == UNIT else private
    return Record(StagedRelease(identifier, release, launch, unit), kept)


def _adopted(server: Server, supervision: Supervision, hidden: Iterable[str]) -> dict[str, Any]:
    return {
        "by": supervision.kind,
        "enabled": supervision.enabled,
        "executable": _as_text(server.executable),
        "program": _as_text(server.program),
        "log": {"stdout": _as_text(server.stdout.path), "stderr": _as_text(server.stderr.path)},
        "umask": f"{server.umask:04o}",
        "limits": {"nofile": list(server.limits.nofile), "memlock": list(server.limits.memlock)},
        "uid": server.user.uid,
        "gid": server.user.gid,
        "groups": list(server.user.groups),
        "nice": server.nice,
        "cpus": list(server.cpus),
        "ignores_hangup": server.ignores_hangup,
        "hidden": sorted(_as_text(name) for name in hidden),
    }


def _environment(server: Server) -> Artifact:
    """The prefix that the engine runs from, as its variables or its interpreter's path tell."""
    environ = server.engine_environ
    first = server.engine_argv[0] if server.engine_argv else ""
    prefix = environ.get("VIRTUAL_ENV") or environ.get("CONDA_PREFIX") or ""
    if os.path.isabs(first) and os.path.basename(os.path.dirname(first)) == "bin":
        prefix = os.path.dirname(os.path.dirname(first))
    prefix = _as_text(prefix or os.path.dirname(os.path.dirname(server.executable)))
    return Artifact(os.path.basename(prefix) or prefix, "", prefix)


def _model(path: str, cwd: str) -> Artifact:
    """The model's folder; a name of a hub has no path."""
    if not path:
        return Artifact("", "", "")
    place = os.path.normpath(os.path.join(cwd, path))
    return Artifact(_as_text(os.path.basename(path.rstrip("/"))), "", _as_text(place) if os.path.exists(place) else "")


def unwritable(server: Server) -> str:
    """A path of `server` that cannot be written down, since it is no UTF-8; '' where all can."""
    paths = (server.cwd, server.program, server.executable, server.stdout.path, server.stderr.path)
    return next((_as_text(path) for path in paths if not _is_text(path) or (not path.isprintable() and path)), "")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_text(value: str) -> str:
    """The same text with undecodable bytes replaced."""
    return value if _is_text(value) else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
