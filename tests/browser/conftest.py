"""The browser that the tests of reports share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.browser.chromium import Page, browser, program


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    missing = "" if program() else "there is no Chromium. Fix: apt-get install chromium"
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    if missing:
        pytest.skip(missing)
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page
