"""The double's options, where SGLang has its own."""

from __future__ import annotations

import argparse

from sglang.launch_server import add_arguments


class ServerArgs:
    """As much of SGLang's ServerArgs as staging asks for."""

    @staticmethod
    def add_cli_args(parser: argparse.ArgumentParser) -> None:
        """Add the options of the double."""
        add_arguments(parser)
