"""Wheels of SGLang's double, in versions that an environment can be locked to."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

from tests.doubles import openai_server
from tests.doubles.bundle_files import write_wheel

DOUBLES = Path(__file__).parent
NEEDED = ("torch", "transformers")  # an environment with SGLang has to have them
# A plan reads the options where they are declared, and runs nothing.
SERVER_ARGS = f"""import argparse

FAULTS = {openai_server.FAULTS!r}


class ServerArgs:
    @staticmethod
{textwrap.indent(inspect.getsource(openai_server.add_arguments).replace("add_arguments", "add_cli_args"), "    ")}"""


def write_engine_wheels(folder: Path, *versions: str) -> None:
    """Write a wheel of each version.

    Args:
        folder: for the wheels.
        versions: of SGLang that they say they are.
    """
    engine = DOUBLES / "engine"
    files = {str(path.relative_to(engine)): path.read_text() for path in engine.glob("**/*.py")}
    files["sglang/launch_server.py"] = (DOUBLES / "openai_server.py").read_text()
    files["sglang/srt/server_args.py"] = SERVER_ARGS
    for name in NEEDED:
        files[f"{name}/__init__.py"] = f'"""No {name}: the double needs none."""\n'
    for version in versions:
        write_wheel(folder, "sglang", version, files)
