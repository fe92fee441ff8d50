"""Where wheels are found: folders, pages of links, simple indexes; which one is taken; what is said otherwise."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import LockedWheel
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments import http_client, pages, wheel_index
from deployer.environments.pages import Candidate, parse_page
from deployer.environments.sources import PackageSources
from deployer.environments.wheel_index import default_index, locate_wheels
from tests.doubles.bundle_files import write_wheel
from tests.doubles.package_server import Fault, PackageServer

SECRET = "s3cret-of-the-index"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def serve(server: PackageServer, file_name: str, content: bytes | None = None) -> bytes:
    """Put a file on the server that is told by its name from others; returns its content."""
    content = file_name.encode() if content is None else content
    server.files[f"/files/{file_name}"] = content
    return content


def locked(name: str, *contents: bytes, version: str = "1.0") -> LockedWheel:
    return LockedWheel(name, version, frozenset(map(digest, contents)))


def sources(*indexes: str, find_links: Sequence[str] = ()) -> PackageSources:
    return PackageSources(indexes=indexes, find_links=tuple(find_links), public_index=False)


def found(wheel: LockedWheel, of: PackageSources, client: httpx.Client) -> list[str]:
    """File names of the candidates, in order."""
    return [one.file_name for one in locate_wheels([wheel], "3.11.7", of, client)[wheel]]


@pytest.mark.parametrize("html", [False, True], ids=["JSON", "HTML"])
def test_a_wheel_is_found_by_its_hash(server: PackageServer, client: httpx.Client, html: bool) -> None:
    server.html = html
    serve(server, "alpha-1.0-1-py3-none-any.whl", b"another build")
    content = serve(server, "alpha-1.0-py3-none-any.whl")
    wheel = locked("alpha", content)
    (one,) = locate_wheels([wheel], "3.11.7", sources(f"{server.url}/simple"), client)[wheel]
    url = f"{server.url}/files/alpha-1.0-py3-none-any.whl"
    assert one == Candidate("alpha-1.0-py3-none-any.whl", url, digest(content), None if html else len(content))


def test_pages_are_asked_for_at_once(server: PackageServer, client: httpx.Client) -> None:
    gate = threading.Barrier(8)
    page = server.page

    def waiting(name: str) -> tuple[str, bytes] | None:
        gate.wait(60)
        return page(name)

    server.page = waiting  # type: ignore[method-assign]
    wheels = [locked(f"alpha{number}", serve(server, f"alpha{number}-1.0-py3-none-any.whl")) for number in range(8)]
    assert len(locate_wheels(wheels, "3.11.7", sources(f"{server.url}/simple"), client)) == 8


def test_folders_come_before_any_index(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    path = write_wheel(tmp_path / "wheels", "alpha", "1.0")
    wheel = locked("alpha", path.read_bytes())
    for place in (str(path.parent), path.parent.as_uri()):
        (one,) = locate_wheels([wheel], "3.11.7", sources(server.url, find_links=[place]), client)[wheel]
        assert one.url == path.as_uri()
    (one,) = locate_wheels([wheel], "3.11.7", sources(server.url), client, [path.parent])[wheel]
    assert one.url == path.as_uri()
    assert server.requests == []


def test_a_file_of_a_folder_with_another_hash_does_not_count(
    tmp_path: Path, server: PackageServer, client: httpx.Client
) -> None:
    write_wheel(tmp_path, "alpha", "1.0")
    wheel = locked("alpha", serve(server, "alpha-1.0-py3-none-any.whl"))
    of = sources(f"{server.url}/simple", find_links=[str(tmp_path), str(tmp_path / "no such folder")])
    (one,) = locate_wheels([wheel], "3.11.7", of, client)[wheel]
    assert one.url.startswith(server.url)


def test_an_index_in_files(tmp_path: Path, client: httpx.Client) -> None:
    path = write_wheel(tmp_path / "files", "alpha", "1.0")
    page = tmp_path / "simple" / "alpha" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../files/{path.name}#sha256={digest(path.read_bytes())}">{path.name}</a>')
    alpha, nowhere = locked("alpha", path.read_bytes()), locked("beta", b"")
    of = sources((tmp_path / "simple").as_uri())
    assert locate_wheels([alpha], "3.11.7", of, client)[alpha][0].url == path.as_uri()
    with pytest.raises(DeployError, match=r"beta==1\.0 is not at file://"):
        locate_wheels([nowhere], "3.11.7", of, client)


def test_a_page_of_links_is_read_once(server: PackageServer, client: httpx.Client) -> None:
    wheels = [locked(name, serve(server, f"{name}-1.0-py3-none-any.whl")) for name in ("alpha", "beta")]
    server.files["/list"] = b"".join(
        f'<a href="/files/{name}-1.0-py3-none-any.whl">{name}-1.0-py3-no..></a>'.encode() for name in ("alpha", "beta")
    )
    places = locate_wheels(wheels, "3.11.7", sources(find_links=[f"{server.url}/list"]), client)
    assert [places[wheel][0].file_name for wheel in wheels] == [f"{n}-1.0-py3-none-any.whl" for n in ("alpha", "beta")]
    assert len(server.requests) == 1


def test_indexes_are_asked_in_turn(server: PackageServer, client: httpx.Client) -> None:
    content = serve(server, "alpha-1.0-py3-none-any.whl")
    # Some servers answer 403 for what they do not have.
    server.faults["/first/alpha/"] = [Fault(403)]
    of = sources(f"{server.url}/none", f"{server.url}/first", f"{server.url}/simple")
    assert found(locked("alpha", content), of, client) == ["alpha-1.0-py3-none-any.whl"]
    assert [request.status for request in server.requests] == [404, 403, 200]


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (("cp311-cp311-manylinux_2_28", "cp311-cp311-manylinux2014"), "cp311-cp311-manylinux2014"),
        (("cp310-cp310-manylinux2014", "cp311-cp311-manylinux_2_28"), "cp311-cp311-manylinux_2_28"),
        (("cp311-cp311-musllinux_1_1", "cp38-abi3-manylinux_2_28"), "cp38-abi3-manylinux_2_28"),
        (("cp313-cp313-manylinux_2_17", "py3-none-manylinux_2_35"), "py3-none-manylinux_2_35"),
    ],
    ids=["lowest glibc", "the python's", "glibc, not musl", "any python's"],
)
def test_of_several_that_are_locked_the_most_portable_is_taken(
    server: PackageServer, client: httpx.Client, offered: tuple[str, ...], taken: str
) -> None:
    wheel = locked("alpha", *(serve(server, f"alpha-1.0-{tags}_x86_64.whl") for tags in offered))
    assert found(wheel, sources(f"{server.url}/simple"), client) == [f"alpha-1.0-{taken}_x86_64.whl"]


def test_the_only_locked_file_is_taken_whatever_its_tags(server: PackageServer, client: httpx.Client) -> None:
    content = serve(server, "alpha-1.0-cp38-cp38-manylinux2014_x86_64.whl")
    assert found(locked("alpha", content), sources(f"{server.url}/simple"), client)


def test_pages_without_hashes_leave_candidates(server: PackageServer, client: httpx.Client) -> None:
    server.hashes = False
    names = [
        "alpha-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "alpha-1.0-cp311-cp311-manylinux2014_x86_64.whl",
        "alpha-1.0-cp310-cp310-manylinux2014_x86_64.whl",
        "alpha-2.0-cp311-cp311-manylinux2014_x86_64.whl",
    ]
    content, *_ = [serve(server, name) for name in names]
    assert found(locked("alpha", content), sources(f"{server.url}/simple"), client) == [names[1], names[0]]


def test_a_login_goes_to_the_index_alone(server: PackageServer) -> None:
    page = f"http://me:{SECRET}@{server.host}/simple/alpha/"
    text = f'<a href="/a-1-py3-none-any.whl">a</a><a href="{server.url}/b-1-py3-none-any.whl">b</a>'
    text += '<a href="http://elsewhere.example/c-1-py3-none-any.whl">c</a>'
    urls = [one.url for one in parse_page(text, "text/html", page)]
    assert [SECRET in url for url in urls] == [True, True, False]


def test_links_that_are_no_file_for_us_are_left_out() -> None:
    hrefs = ("..%2F..%2Fevil-1-py3-none-any.whl", "file:///etc/passwd", "javascript:x", "/", "#top", ".hidden")
    text = '<base href="http://files.example/x/">' + "".join(f"<a href='{href}'>x</a>" for href in hrefs)
    text += "<a href='torch-2.13.0%2Bcpu-py3-none-any.whl#md5=0'>x</a><a>no link</a>"
    (one,) = parse_page(text, "text/html", "http://index.example/simple/x/")
    assert one.file_name == "torch-2.13.0+cpu-py3-none-any.whl"
    assert one.url == "http://files.example/x/torch-2.13.0%2Bcpu-py3-none-any.whl"
    assert one.sha256 == ""


def refused(wheels: Sequence[LockedWheel], of: PackageSources, client: httpx.Client) -> DeployError:
    with pytest.raises(DeployError) as error:
        locate_wheels(wheels, "3.11.7", of, client)
    assert SECRET not in str(error.value)
    assert error.value.fix
    return error.value


def test_all_that_is_missing_is_named(server: PackageServer, client: httpx.Client) -> None:
    serve(server, "alpha-2.0-py3-none-any.whl")
    of = sources(f"http://me:{SECRET}@{server.host}/simple")
    error = refused([locked("beta", b""), locked("alpha", b"")], of, client)
    assert error.problem == f"alpha==1.0 is not at {server.url}/simple"
    assert error.detail == f"beta==1.0 is not at {server.url}/simple"


def test_another_file_of_the_version_is_named(server: PackageServer, client: httpx.Client) -> None:
    content = serve(server, "alpha-1.0-py3-none-any.whl")
    error = refused([locked("alpha", b"what was locked")], sources(f"{server.url}/simple"), client)
    wanted = digest(b"what was locked")
    assert f"sha256 wanted {wanted}, got {digest(content)} (alpha-1.0-py3-none-any.whl)" in error.problem


def test_a_source_archive_is_no_wheel(server: PackageServer, client: httpx.Client) -> None:
    content = serve(server, "alpha-1.0.tar.gz")
    error = refused([locked("alpha", content)], sources(f"{server.url}/simple"), client)
    assert "is a source archive" in error.problem
    assert "pip wheel" in error.fix


def test_none_of_several_that_suits(server: PackageServer, client: httpx.Client) -> None:
    contents = [serve(server, f"alpha-1.0-{tags}.whl") for tags in ("cp310-cp310-win_amd64", "cp311-cp311-win_amd64")]
    error = refused([locked("alpha", *contents)], sources(f"{server.url}/simple"), client)
    assert "no locked wheel of alpha==1.0 suits" in error.problem


def test_an_index_that_refuses_the_login(server: PackageServer, client: httpx.Client) -> None:
    server.login = "me:another"
    error = refused([locked("alpha", b"")], sources(f"http://me:{SECRET}@{server.host}/simple"), client)
    assert error.problem.endswith(f"{server.url}/simple/alpha/ is refused without a valid login (HTTP 401)")
    assert "~/.netrc" in error.fix


def test_an_index_that_does_not_answer_is_not_asked_for_every_package(
    server: PackageServer, client: httpx.Client
) -> None:
    serve(server, "alpha-1.0-py3-none-any.whl")
    for name in ("alpha", "beta"):
        server.faults[f"/simple/{name}/"] = [Fault(503)]
        server.lasting.add(f"/simple/{name}/")
    of = sources(f"http://me:{SECRET}@{server.host}/simple")
    with pytest.raises(DeployError, match="cannot be fetched from http://127"):
        locate_wheels([locked("alpha", b""), locked("beta", b"")], "3.11.7", of, client, connections=1)
    assert len(server.requests) == http_client.ATTEMPTS


def test_a_page_that_is_none_is_named(server: PackageServer, client: httpx.Client) -> None:
    server.page = lambda name: ("application/json", b"{}")  # type: ignore[method-assign]
    error = refused([locked("alpha", b"")], sources(f"{server.url}/simple"), client)
    assert "no list of files" in error.problem


def test_the_default_index_is_pips(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_index().startswith("https://")

    def without_pip(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(wheel_index.importlib, "import_module", without_pip)
    with pytest.raises(DeployError, match="this python has no pip"):
        default_index()


def test_the_index_is_asked_for_json_first() -> None:
    assert pages.ACCEPT.startswith("application/vnd.pypi.simple.v1+json,")
