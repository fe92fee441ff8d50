"""The file that keeps what was measured of one server until there is another to compare it with."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Measurement

LARGEST_FILE = 256 * 1024 * 1024  # bytes


def save(measurement: Measurement, path: Path) -> None:
    """Write a measurement to a file that only its user may read: it holds prompts and answers.

    Raises:
        DeployError: it cannot be written.
    """
    text = _adapter().dump_json(measurement, indent=1).decode()
    try:
        write_file(str(path.absolute()), text + "\n", mode=0o600)
    except OSError as error:
        raise DeployError(f"{path} cannot be written: {error}", "name a file in a folder of yours") from error


def refuse_place(path: Path) -> None:
    """Refuse a file that `save` could not write, before minutes go into what it is to hold.

    Raises:
        DeployError: its folder is not there, or not the user's to write to.
    """
    folder = path.absolute().parent
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise DeployError(f"{path} cannot be written", "name a file in a folder of yours")


def load_file(path: Path) -> Measurement:
    """Read what `save` has written.

    Raises:
        DeployError: there is no such file, or it is none that `compare --record` wrote.
    """
    fix = "give a file that compare --record of this version wrote"
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DeployError(f"{path} is larger than {LARGEST_FILE // 2**20} MiB", fix)
        return _adapter().validate_json(path.read_bytes())
    except OSError as error:
        raise DeployError(f"{path} cannot be read: {error}", fix) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise DeployError(f"{path} is no measurement: {where}: {first['msg']}", fix) from error


def measurement_of(value: Any) -> Measurement:
    """What a host has measured, from JSON.

    Raises:
        DeployError: it is no measurement.
    """
    try:
        return _adapter().validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise DeployError(
            f"what it has measured makes no sense: {where}: {first['msg']}", "see what is installed there"
        ) from error


@cache
def _adapter() -> TypeAdapter[Measurement]:
    # A rate of infinity is a word in the file, as JSON has no number for it.
    return TypeAdapter(with_config(ConfigDict(ser_json_inf_nan="strings"))(Measurement))
