"""Draws the report that the documentation shows: `python -m tests.browser.picture`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deployer.report import write_report
from tests.browser.chromium import browser
from tests.unit.deployer.report import runs

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "report.png"
WIDTH = 1100


def main() -> None:
    """Write the picture: from the top of the report to the end of its timeline."""
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder)) as tab:
        tab.open(write_report(runs.write(Path(folder) / "run", runs.six_hosts())), WIDTH)
        end = tab.value("document.querySelector('#cutovers').getBoundingClientRect().bottom + scrollY + 16")
        PICTURE.write_bytes(tab.picture({"x": 0, "y": 0, "width": WIDTH, "height": end}))


if __name__ == "__main__":
    main()
