"""The report of a run: one HTML file beside its journal, which needs nothing else to be read."""

from __future__ import annotations

from pathlib import Path

REPORT = "report.html"


def write_report(folder: Path) -> Path:
    """Write the report of a run from what the run left in its folder.

    Args:
        folder: of the run, with its events.jsonl; a run that was killed has no more than that.

    Returns:
        The path of the HTML file, which only its user may read; an older one was replaced in one step.

    Raises:
        OSError: the folder has no events, or cannot be read or written.
    """
    from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
    from deployer.report.page import page
    from deployer.report.reading import read_record
    from deployer.report.timeline import timeline

    path = folder / REPORT
    write_file(str(path), page(timeline(read_record(folder))), mode=0o600)
    return path
