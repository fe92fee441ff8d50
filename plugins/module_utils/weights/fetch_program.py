"""The program that fetches, `fetch_child`, as it is sent to a Python that has nothing of this package."""

from __future__ import annotations

import io
import zipfile
from types import ModuleType

from ansible_collections.deployer.sglang.plugins.module_utils.program_text import source_of
from ansible_collections.deployer.sglang.plugins.module_utils.weights import fetch_child
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child import (
    attempts,
    fetch,
    huggingface,
    libraries,
    main,
    modelscope,
    paths,
    problems,
    progress,
    protocol,
    skeleton,
    source,
    web,
    web_folder,
)

# By name, so that Ansible sees which files a module needs on a host.
MODULES = (
    *(fetch_child, attempts, fetch, huggingface, libraries, main, modelscope, paths, problems, progress, protocol),
    *(skeleton, source, web, web_folder),
)


def program() -> bytes:
    """A zip application: what `python FILE.zip` runs; the same bytes each time."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in sources().items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return content.getvalue()


def sources() -> dict[str, str]:
    """Its files: path in the archive -> text."""
    names = fetch_child.__name__.split(".")
    packages = ["/".join(names[:depth]) for depth in range(1, len(names))]
    return {
        "__main__.py": f"from {main.__name__} import main\n\nmain()\n",
        **{f"{package}/__init__.py": "" for package in packages},
        **{_path(module): source_of(module) for module in MODULES},
    }


def _path(module: ModuleType) -> str:
    return module.__name__.replace(".", "/") + ("/__init__.py" if hasattr(module, "__path__") else ".py")
