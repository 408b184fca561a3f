"""`fetch --dry-run`: a line, or an object, for each name that would be changed; nothing is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.node.client_support import url
from tests.node.wire_support import Served

from p2psync.state import State
from p2psync.text import name_of


async def fetch(*argv: str) -> bytes:
    """What it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "p2psync", "fetch", *argv, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


@pytest.mark.parametrize("as_json", [False, True])
async def test_what_would_be_done_is_listed_and_not_done(node: Served, tmp_path: Path, as_json: bool) -> None:
    dest, state = tmp_path / "copy", tmp_path / "reader"
    words = ["--state", str(state), *(["--json"] if as_json else [])]
    lines = (await fetch("-n", *words, url(node), str(dest))).splitlines()
    with State.open(state) as opened:
        assert opened.trees.all() == [], "nothing is remembered of what was not fetched"
    assert not dest.exists()
    await fetch(*words, url(node), str(dest))
    made = {os.fsencode(path.relative_to(dest)) for path in dest.rglob("*")}
    if as_json:
        events = [json.loads(line) for line in lines]
        told = {name_of(each, "path") for each in events if each["event"] == "change"}
        assert told == made | {b"."}
    else:
        told = {line[12:].split(b" -> ")[0].rstrip(b"/") for line in lines if line[11:12] == b" "}
        printable = {
            path for path in made if path.isascii() and b"\n" not in path
        }  # rsync writes others as \\#012
        assert told >= printable
    (dest / "mine").touch()
    out = await fetch("-n", "--delete", *words, url(node), str(dest))
    assert (b'{"event":"delete","path":"mine","type":"file"}' if as_json else b"*deleting   mine\n") in out
    assert (dest / "mine").exists()
