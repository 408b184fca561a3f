"""The archive as plain web servers show one: links within it are followed, a directory shows its own page,
and what stands in front may move it all below another path.
"""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest
from tests.node.publishing import write
from tests.node.wire_support import Served, program, run, served

PAGE = b"<!doctype html><a href=file>here</a>"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    tree = tmp_path / "tree"
    write(tree / "dists/stable/main/Packages", b"Package: p\n")
    (tree / "dists/bookworm").symlink_to("stable")
    (tree / "dists/latest").symlink_to("bookworm")
    (tree / "dists/pool").symlink_to("../pool/")
    write(tree / "pool/data.json", b"{}")
    (tree / "pool/readme.txt").symlink_to("../pool/data.json")
    (tree / "out").symlink_to("../../etc")
    (tree / "absolute").symlink_to("/etc")
    (tree / "loop").symlink_to("loop")
    write(tree / "site/index.html", PAGE)
    write(tree / "site/file", b"file")
    (tree / "linked").mkdir()
    (tree / "linked/index.html").symlink_to("../site/index.html")
    write(tree / "odd/index.html/not a page", b"")
    (tree / "broken").mkdir()
    (tree / "broken/index.html").symlink_to("nowhere")
    write(tree / "a:b c/x", b"x")
    (tmp_path / "etc").mkdir()
    write(tmp_path / "etc/passwd", b"secret")
    async with served(tmp_path, tree) as made:
        yield made


async def ask(
    node: Served, path: str, method: str = "GET", **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of the answer to one request, redirects not followed."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, node.url + path, headers=named, allow_redirects=False) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


@pytest.mark.parametrize("path", ["/dists/bookworm/main/Packages", "/dists/latest/main/Packages"])
async def test_a_path_through_links_is_answered_with_the_file(node: Served, path: str) -> None:
    status, headers, body = await ask(node, path)
    assert (status, body) == (200, b"Package: p\n")
    assert headers["ETag"] == (await ask(node, "/dists/stable/main/Packages"))[1]["ETag"]


async def test_a_link_to_a_file_is_that_file_with_the_type_of_its_own_name(node: Served) -> None:
    status, headers, body = await ask(node, "/pool/readme.txt")
    assert (status, body, headers["Content-Type"]) == (200, b"{}", "text/plain; charset=utf-8")
    assert (await ask(node, "/pool/readme.txt", If_None_Match=headers["ETag"]))[0] == 304
    assert (await ask(node, "/pool/readme.txt", Range="bytes=1-"))[::2] == (206, b"}")
    assert (await ask(node, "/pool/readme.txt/"))[0] == 404


async def test_a_link_to_a_directory_is_a_directory_in_its_place(node: Served) -> None:
    status, headers, _ = await ask(node, "/dists/latest")
    assert (status, headers["Location"]) == (301, "./latest/")
    status, _, body = await ask(node, "/dists/latest/")
    assert status == 200
    assert b'href="./main/"' in body, "links in it are relative to where it was asked for"


@pytest.mark.parametrize(
    "path",
    ["/out/passwd", "/out/", "/out", "/absolute/passwd", "/absolute/", "/loop", "/loop/x", "/dists/no/x"],
)
async def test_no_link_leads_out_or_round(node: Served, path: str) -> None:
    status, _, body = await ask(node, path)
    assert status == 404
    assert b"secret" not in body


async def test_a_directory_with_a_page_of_its_own_shows_it(node: Served) -> None:
    for path in ("/site/", "/linked/", "/site/index.html"):
        status, headers, body = await ask(node, path)
        assert (status, body) == (200, PAGE), path
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Content-Security-Policy"].startswith("sandbox"), "it runs no script of this node"
        assert (await ask(node, path, If_None_Match=headers["ETag"]))[0] == 304
        assert (await ask(node, path, If_Modified_Since=headers["Last-Modified"]))[0] == 304
        assert (await ask(node, path, Range="bytes=0-9"))[::2] == (206, PAGE[:10])
        status, headers, body = await ask(node, path, "HEAD")
        assert (status, headers["Content-Length"], body) == (200, str(len(PAGE)), b"")


@pytest.mark.parametrize("path", ["/odd/", "/broken/", "/dists/"])
async def test_other_directories_are_listed(node: Served, path: str) -> None:
    status, headers, body = await ask(node, path)
    assert status == 200
    assert b"<table>" in body
    assert (await ask(node, path, If_None_Match=headers["ETag"]))[0] == 304
    assert (await ask(node, path, "HEAD"))[::2] == (200, b"")


@pytest.mark.parametrize(
    ("path", "leads"), [("", "./{id}/"), ("/site", "./site/"), ("/a%3ab%20c", "./a%3Ab%20c/")]
)
async def test_the_slash_is_added_where_it_was_forgotten(node: Served, path: str, leads: str) -> None:
    status, headers, _ = await ask(node, path)
    assert status == 301
    assert headers["Location"] == leads.format(id=node.url.rpartition("/")[2])
    async with aiohttp.ClientSession() as session, session.get(node.url + path) as answer:
        assert answer.status == 200


async def test_every_link_of_every_list_is_relative(node: Served) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"http://{node.address}/") as answer:
        first = await answer.read()
    for body in (first, (await ask(node, "/"))[2], (await ask(node, "/dists/"))[2]):
        links = re.findall(rb'href="([^"]*)"', body)
        assert links
        assert all(link.startswith((b"./", b"../")) for link in links)


async def test_a_list_shows_which_links_are_directories_as_programs_that_mirror_need_it(
    node: Served, tmp_path: Path
) -> None:
    _, _, body = await ask(node, "/dists/")
    assert b'href="./bookworm/"' in body
    assert b'href="./pool/"' in body
    _, _, body = await ask(node, "/")
    assert all(b'href="./%b"' % name in body for name in (b"out", b"absolute", b"loop"))
    program("wget", "wget")
    where = ("--directory-prefix", str(tmp_path / "got"), "--no-host-directories", "--cut-dirs=1")
    await run("wget", "--quiet", "--mirror", "--no-parent", *where, f"{node.url}/dists/")
    got = tmp_path / "got/dists/bookworm/main/Packages"
    assert got.read_bytes() == b"Package: p\n"


async def test_pip_installs_from_an_index_in_an_archive(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    wheel = "tiny_one-1.0-py3-none-any.whl"
    (tree / "packages").mkdir(parents=True)
    with zipfile.ZipFile(tree / "packages" / wheel, "w") as made:
        made.writestr("tiny_one.py", "")
        made.writestr(
            "tiny_one-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-one\nVersion: 1.0\n"
        )
        made.writestr("tiny_one-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        made.writestr("tiny_one-1.0.dist-info/RECORD", "")
    link = f'<!DOCTYPE html><a href="../../packages/{wheel}">{wheel}</a>'
    write(tree / "simple/tiny-one/index.html", link.encode())
    write(tree / "simple/index.html", b'<!DOCTYPE html><a href="tiny-one/">tiny-one</a>')
    async with served(tmp_path, tree) as node:
        done = await run(
            *(sys.executable, "-m", "pip", "download", "--no-cache-dir", "--disable-pip-version-check"),
            *(
                "--isolated",
                "--no-deps",
                "--index-url",
                f"{node.url}/simple/",
                "--dest",
                str(tmp_path / "got"),
            ),
            "tiny-one",
        )
    assert done.returncode == 0, done.stderr.decode()
    assert os.listdir(tmp_path / "got") == [wheel]
