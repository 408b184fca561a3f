"""``p2psync mirror``: what of its command line reaches the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2psync.cli.app import run
from p2psync.client import Client
from p2psync.fetch.options import FetchSummary
from p2psync.format.url import archive_text

ARCHIVE = b"a" * 32


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of each update that a command asks for; nothing is done."""
    made: list[dict[str, Any]] = []

    async def mirror(_: Client, source: Any, directory: Any, **options: Any) -> FetchSummary:
        made.append(options)
        return FetchSummary(ARCHIVE)

    monkeypatch.setattr(Client, "mirror", mirror)
    return made


@pytest.mark.parametrize(
    ("words", "config", "listen"),
    [
        ([], "", ("::", 0)),
        (["--listen", "127.0.0.1:0"], "", ("127.0.0.1", 0)),
        (["--listen", "127.0.0.1:4711"], "", ("127.0.0.1", 4711)),
        ([], '[mirror]\nlisten = "127.0.0.1:8730"\n', ("127.0.0.1", 0)),
    ],
)
def test_once_it_listens_where_the_command_line_says_and_never_in_a_nodes_place(
    tmp_path: Path, asked: list[dict[str, Any]], words: list[str], config: str, listen: tuple[str, int]
) -> None:
    (tmp_path / "p2psync.toml").write_text(config)
    place = ["--state", str(tmp_path / "state"), "--config", str(tmp_path / "p2psync.toml")]
    url = f"p2psync://{archive_text(ARCHIVE)}"
    assert run(["mirror", "--once", *place, *words, url, str(tmp_path / "m")]) == 0
    assert [options["listen"] for options in asked] == [listen]
