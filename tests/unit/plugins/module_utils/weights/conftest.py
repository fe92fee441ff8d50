"""The model that most tests of fetching fetch."""

from __future__ import annotations

import pytest

from tests.doubles.hub_models import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small model, in two folders; one name has what addresses have to escape."""
    files = tiny_model(tmp_path_factory.mktemp("model"))
    return {**files, "docs/a b [c]#%20é.txt": b"text", "empty.txt": b"", ".gitattributes": b"*"}
