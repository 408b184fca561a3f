"""What a node remembers of the DHT is a cache: what cannot be read or saved is named, and done without."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from p2psync.network.dht import RECORDS, open_dht
from p2psync.state import State
from p2psync_dht import DhtNode, Identity

FILES = ["contacts.msgpack", RECORDS]
TEMPORARY = re.compile(r"\.(contacts|records)")


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.open(tmp_path / "state")


@pytest.fixture
async def peer() -> AsyncIterator[list[str]]:
    """The address of a node to join by: without contacts there are none to save."""
    node = await DhtNode.start(Identity.generate(), "127.0.0.1", 0)
    yield [f"127.0.0.1:{node.address[1]}"]
    await node.close()


@pytest.mark.parametrize("name", FILES)
async def test_what_cannot_be_read_or_saved_is_named_and_the_rest_is_kept(
    state: State,
    peer: list[str],
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (state.path / name).mkdir()
    other = next(each for each in FILES if each != name)
    async with open_dht(state, bootstrap=peer, host="127.0.0.1", records=True) as node:
        assert node.contacts()
        (read,) = caplog.messages
        caplog.clear()
    (saved,) = caplog.messages
    for message, doing in ((read, "read"), (saved, "saved")):
        assert f"{state.path / name} cannot be {doing}: Is a directory; " in message
        assert "to the user that this runs as" in message
    assert (state.path / other).is_file()
    assert not any(map(TEMPORARY.match, os.listdir(state.path)))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOSPC])
async def test_any_error_of_the_disk_is_said_in_its_words(
    state: State,
    peer: list[str],
    number: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(DhtNode, "load_contacts", refuse)
    monkeypatch.setattr(DhtNode, "save_records", refuse)
    async with open_dht(state, bootstrap=peer, host="127.0.0.1", records=True):
        assert len(caplog.messages) == 1
    assert [os.strerror(number) in message for message in caplog.messages] == [True, True]
    assert state.contacts_path.is_file()


async def test_a_missing_file_is_nothing_to_speak_of(state: State, caplog: pytest.LogCaptureFixture) -> None:
    async with open_dht(state, host="127.0.0.1", records=True):
        pass
    async with open_dht(state, host="127.0.0.1", records=True):
        pass
    assert caplog.messages == []
