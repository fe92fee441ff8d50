"""The commands about weights: manifest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployer.cli.command_line import errors_said

if TYPE_CHECKING:
    from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest
    from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import Rules


class Format(str, Enum):
    """What `manifest` prints or writes."""

    text = "text"
    json = "json"
    sglang = "sglang"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command(epilog="Exit codes: 0 done, 2 the folder or an option cannot be used.")(manifest)


def manifest(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A model's folder.")],
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave these out as well: a name, or a path below FOLDER, with * and ?.")
    ] = None,
    include: Annotated[list[str] | None, typer.Option(help="Keep these in spite of the rules.")] = None,
    output_format: Annotated[
        Format, typer.Option("--format", help="json: the manifest; sglang: for SGLang's --model-checksum.")
    ] = Format.text,
    output: Annotated[Path | None, typer.Option(help="Write it to this file, and say the digest.")] = None,
    names: Annotated[bool, typer.Option("--left-out", help="List what is left out, and by which rule.")] = False,
) -> None:
    """Hash a model's folder, each file once until it changes, and say its digest.

    Example: python -m deployer manifest /data/saves/qwen3-14b-ft --left-out
    """
    from rich.console import Console

    from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
    from ansible_collections.deployer.sglang.plugins.module_utils.manifest import left_out
    from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import model_rules
    from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import cached_manifest
    from deployer.progress import by_bytes
    from deployer.progress import shown as shown_progress

    with errors_said("manifest"):
        rules = model_rules(exclude or (), include or ())
        if output is not None:
            _refuse_output(output, folder, rules)
        with shown_progress(Console(stderr=True), "hashed") as progress:
            found = cached_manifest(folder, rules, by_bytes(progress))
        left = left_out(folder, rules)
        text = _rendered(found, left, output_format)
        if output is None:
            typer.echo(text, nl=False)
        else:
            try:
                write_file(os.path.abspath(output), text)
            except OSError as error:
                _refuse(f"{output} cannot be written: {error.strerror}", "give another --output")
            typer.echo(f"{found.digest}  {folder}")
        if names:
            # Beside JSON it would be none any more.
            console = Console(stderr=output is None and output_format is not Format.text)
            for line in _left_out(left):
                console.print(line, highlight=False, soft_wrap=True)


def _text(manifest: Manifest, left: list[tuple[str, str]]) -> Iterator[str]:
    from rich.filesize import decimal

    from deployer.wording import counted

    yield f"digest    {manifest.digest}"
    yield f"files     {len(manifest.files):,}, {decimal(manifest.size)}"
    rules = Counter(rule for _, rule in left)
    by = ", ".join(f"{rule} {count}" if count > 1 else rule for rule, count in rules.most_common())
    yield f"left out  {counted(len(left), 'name')} ({by})" if left else "left out  nothing"


def _left_out(left: list[tuple[str, str]]) -> Iterator[str]:
    from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import why
    from deployer.views.console import shown

    for path, rule in left:
        yield f"{shown(path)}  [dim]{shown(rule)}: {shown(why(rule))}[/]"


def _rendered(manifest: Manifest, left: list[tuple[str, str]], output_format: Format) -> str:
    from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json
    from ansible_collections.deployer.sglang.plugins.module_utils.weights.checksums import to_sglang

    if output_format is Format.json:
        return pretty_json({"digest": manifest.digest, **manifest.as_dict()})
    if output_format is Format.sglang:
        return pretty_json(to_sglang(manifest))
    return "".join(f"{line}\n" for line in _text(manifest, left))


def _refuse_output(output: Path, folder: str, rules: Rules) -> None:
    """Refuse to write what the next run would take for a part of the model.

    Raises:
        DeployError: the file would lie in the model's folder, and no rule leaves it out.
    """
    below = os.path.relpath(os.path.realpath(output), os.path.realpath(folder))
    if not below.startswith("..") and rules.reason(below.replace(os.sep, "/")) is None:
        _refuse(f"{output} would become a part of the model", "write it outside of the model's folder")


def _refuse(problem: str, fix: str) -> None:
    from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

    raise DeployError(problem, fix)
