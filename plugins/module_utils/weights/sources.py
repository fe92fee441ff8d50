"""Where a model's weights come from: the one string of `model.source`, parsed.

/data/models/qwen3-14b  models/qwen3-14b  ~/qwen3-14b     a folder on the controller
gpu-3:/data/models/qwen3-14b                              a folder on a host of the inventory
hosts:/nfs/models/qwen3-14b                               a folder that every host has already
hf://Qwen/Qwen3-14B@REVISION                              Hugging Face; without a revision: main
modelscope://Qwen/Qwen3-14B@REVISION                      ModelScope; without a revision: master
https://files.example/models/qwen3-14b/                   a folder on a web server
"""

from __future__ import annotations

import posixpath
import re
import string
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

CONTROLLER = "controller"
HOST = "host"
EVERY_HOST = "every_host"
HUGGINGFACE = "huggingface"
MODELSCOPE = "modelscope"
HTTP = "http"
KINDS = (CONTROLLER, HOST, EVERY_HOST, HUGGINGFACE, MODELSCOPE, HTTP)

EVERYWHERE = "hosts"  # stands before a path in the place of a host's name
HUBS = {"hf": HUGGINGFACE, "modelscope": MODELSCOPE}
DEFAULT_REVISION = {HUGGINGFACE: "main", MODELSCOPE: "master"}
# The hubs' own pages, which people copy the address of.
PAGES = {"huggingface.co": "hf", "hf.co": "hf", "modelscope.cn": "modelscope", "modelscope.ai": "modelscope"}
FORMS = "PATH, HOST:/PATH, hosts:/PATH, hf://ORG/NAME@REVISION, modelscope://ORG/NAME@REVISION or https://…/FOLDER/"
CREDENTIALS = (
    "take them out, and put what the Authorization header has to say into the environment variable "
    "DEPLOYER_HTTP_AUTHORIZATION"
)
LONGEST = 4096

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BEFORE_COLON = re.compile(r"([^/:]*):(.*)", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FILE = re.compile(r"\.(safetensors|gguf|bin|pt|pth|json|tar|tgz|gz|zst|zip)$", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """Where weights come from.

    Attributes:
        kind: one of KINDS.
        text: as the description has it.
        host: name of the host that has the folder; only of HOST.
        path: of the folder; of CONTROLLER as written, `~` and relative paths included.
        repository: ORG/NAME on a hub.
        revision: branch, tag or commit on a hub; never empty there.
        url: of the folder, with `/` at its end; only of HTTP.
    """

    kind: str
    text: str
    host: str = ""
    path: str = ""
    repository: str = ""
    revision: str = ""
    url: str = ""

    @property
    def is_fetched(self) -> bool:
        """Whether the files come from outside the fleet."""
        return self.kind in (HUGGINGFACE, MODELSCOPE, HTTP)

    @property
    def needs_library(self) -> str:
        """Name of the Python package that fetches from there; '' where the standard library does."""
        return {HUGGINGFACE: "huggingface_hub", MODELSCOPE: "modelscope"}.get(self.kind, "")

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which names the same files for ever."""
        return _COMMIT.fullmatch(self.revision) is not None


def parse_source(text: Any) -> Source:
    """The source that a description names.

    Raises:
        DeployError: it is none, or cannot mean what it says.
    """
    if not isinstance(text, str) or not text.strip():
        raise DeployError("the source of the weights is empty", f"give one of {FORMS}")
    if len(text) > LONGEST:
        raise DeployError(f"the source begins with {text[:40]!r} and is {len(text)} characters long", f"give {FORMS}")
    if not text.isprintable():
        raise DeployError(f"source {text!r} holds a control character", "type it anew: it was copied with more in it")
    if text != text.strip():
        raise DeployError(f"source {text!r} begins or ends with a space", "remove the space")
    scheme = _SCHEME.fullmatch(text)
    if scheme is not None:
        return _with_scheme(text, scheme.group(1).lower(), scheme.group(2))
    if "\\" in text:
        raise DeployError(f"source {text} has a backslash", "write the path with /; hosts and controller run Linux")
    before = _BEFORE_COLON.fullmatch(text)
    return Source(CONTROLLER, text, path=text) if before is None else _on_host(text, before.group(1), before.group(2))


def _with_scheme(text: str, scheme: str, rest: str) -> Source:
    if scheme in HUBS:
        return _on_hub(text, scheme, rest)
    if scheme in ("http", "https"):
        return _on_server(text)
    raise DeployError(f"source {_shown(text)}: {scheme}:// is not known", f"give one of {FORMS}")


def _on_host(text: str, host: str, path: str) -> Source:
    if host.lower() in (*HUBS, "http", "https"):
        raise DeployError(f"source {_shown(text)} lacks the // after {host}:", f"write {host}://{path.lstrip('/')}")
    if len(host) == 1 and host in string.ascii_letters and path[:1] in ("", "/"):
        raise DeployError(f"source {text} is a Windows path", "give the path as Linux has it, such as /data/models/x")
    if "@" in host:
        raise DeployError(
            f"source {text} names a user", "name the host as the inventory does: HOST:/PATH; the user is Ansible's"
        )
    if not _HOST.fullmatch(host):
        raise DeployError(
            f"source {text}: {host!r} is no host's name", f"write ./{text} where a folder of that name is meant"
        )
    if not path.startswith("/"):
        raise DeployError(
            f"source {text}: the path after {host}: is not absolute",
            f"write {host}:/PATH; or ./{text} where a folder of that name on the controller is meant",
        )
    if ".." in path.split("/"):
        raise DeployError(f"source {text} has .. in its path", "write the path without")
    path = posixpath.normpath(f"/{path.lstrip('/')}")
    if path == "/":
        raise DeployError(f"source {text} is the host's root folder", "give the folder of the model")
    return Source(EVERY_HOST, text, path=path) if host == EVERYWHERE else Source(HOST, text, host=host, path=path)


def _on_hub(text: str, scheme: str, rest: str) -> Source:
    form = f"write {scheme}://ORG/NAME, or {scheme}://ORG/NAME@REVISION"
    repository, at, revision = rest.partition("@")
    parts = repository.split("/")
    if len(parts) == 1:
        raise DeployError(f"source {text} lacks the organisation or user before the model's name", form)
    if len(parts) > 2:
        raise DeployError(f"source {text} has more than ORG/NAME", form)
    for part in parts:
        if not _NAME.fullmatch(part) or ".." in part or ("--" in part and scheme == "hf"):
            raise DeployError(f"source {text}: {part!r} cannot be a name on a hub", form)
    if at and not (_REVISION.fullmatch(revision) and _is_reference(revision)):
        raise DeployError(f"source {text}: {revision!r} cannot be a revision", "give a branch, a tag or a commit")
    kind = HUBS[scheme]
    # Commits are compared as the hubs write them.
    revision = revision.lower() if _COMMIT.fullmatch(revision.lower()) else revision
    return Source(kind, text, repository=repository, revision=revision or DEFAULT_REVISION[kind])


def _is_reference(revision: str) -> bool:
    """Whether git would take it for a branch, a tag or a commit (git check-ref-format)."""
    parts = revision.split("/")
    return ".." not in revision and all(p and p[0] != "." and p[-1] != "." and p[-5:] != ".lock" for p in parts)


def _on_server(text: str) -> Source:
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise DeployError(f"source {_shown(text)} is no URL: {error}", "write https://SERVER/FOLDER/") from None
    if url.username is not None or url.password is not None:
        raise DeployError(f"source {_shown(text)} holds credentials", CREDENTIALS)
    if url.query or text.endswith("?"):
        raise DeployError(
            f"source {_shown(text)} has a query (what stands after ?)",
            f"give the folder alone; of credentials: {CREDENTIALS}",
        )
    if "#" in text:
        raise DeployError(f"source {_shown(text)} has a fragment (what stands after #)", "give the folder alone")
    if not host or not re.fullmatch(r"[A-Za-z0-9._:-]+", host) or port == 0:
        raise DeployError(f"source {_shown(text)} names no server", "write https://SERVER/FOLDER/, the name in ASCII")
    page = PAGES.get(".".join(host.split(".")[-2:]))
    names = [name for name in url.path.split("/") if name and name != "models"]
    if page is not None and len(names) >= 2:
        raise DeployError(
            f"source {text} is a page of a hub, no folder of files", f"write {page}://{names[0]}/{names[1]}"
        )
    path = unquote(url.path)
    if not path.isprintable() or "\\" in path or ".." in path.split("/"):
        raise DeployError(f"source {text} has .., a backslash or a control character in its path", "write it without")
    if _FILE.search(path.rstrip("/")):
        raise DeployError(f"source {text} is a file", "give the folder that holds the model's files")
    # What is escaped already stays so: %2F is no /.
    whole = quote(url.path.rstrip("/") + "/", safe="/%:@!$&'()*+,;=~-._")
    return Source(HTTP, text, url=urlunsplit((url.scheme.lower(), url.netloc.lower(), whole, "", "")))


def _shown(text: str) -> str:
    """The text without what may be a credential in it."""
    return re.sub(r"//[^/?#]*@", "//…@", re.sub(r"[?#].*", "?…" if "?" in text else "#…", text, flags=re.DOTALL))
