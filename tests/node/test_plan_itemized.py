"""What a plan tells of itself before it is carried out: to whom, in which order, and once."""

from __future__ import annotations

import os
import shutil
from typing import cast

from tests.node.fetch_world import Nobody, World, world
from tests.node.simulator import Link, content

from p2psync.events import Changing, Event, Removing, Teller, Whole
from p2psync.fetch.engine import Host, run_fetch
from p2psync.fetch.options import Delete, FetchOptions
from p2psync.format.url import ArchiveUrl
from p2psync.network.protocols import Network
from p2psync.supply.share import Nothing

__all__ = ["world"]


def told(world: World, *, changes: bool = True) -> list[Event]:
    """What a fetch that deletes tells whoever asks for changes."""
    heard: list[Event] = []
    asked = FetchOptions(
        ArchiveUrl(world.publisher.archive),
        os.fsencode(world.dest),
        sources=tuple(world.sources),
        share=False,
        delete=Delete.ALL,
    )
    host = Host(cast(Network, Nobody()), lambda _: Nothing())
    tell = Teller(heard.append, changes=changes)
    world.run(run_fetch(asked, world.state, tell, host, writer="inline"))
    return [event for event in heard if isinstance(event, Whole | Changing | Removing)]


def test_all_that_is_made_is_told_in_rsyncs_order_and_what_there_will_be(world: World) -> None:
    world.publisher.publish(
        {
            b"z": b"1",
            b"a": b"22",
            b"x": {b"y": {b"f": b"3"}, b"n": Link(b"../a")},
            b"x-y": {b"g": b"4"},
            b"x.y": {},
        }
    )
    first, *rest = told(world)
    assert first == Whole(4, 4, 1, 5, 4)
    made = [event for event in rest if isinstance(event, Changing)]
    assert made == rest
    assert [event.path for event in made] == [
        b"",
        b"a",
        b"z",
        b"x-y",
        b"x-y/g",
        b"x.y",
        b"x",
        b"x/n",
        b"x/y",
        b"x/y/f",
    ]
    assert all(event.is_new for event in made)
    assert told(world) == [first]


def test_nobody_who_has_not_asked_is_told(world: World) -> None:
    assert told(world, changes=False) == []


def test_what_differs_is_said_of_each_and_what_goes_comes_from_the_inside(world: World) -> None:
    world.publisher.publish({b"a": content("a", 90), b"b": b"2", b"d": {b"f": b"3"}})
    told(world)
    world.publisher.publish({b"a": content("b", 90), b"b": b"22", b"f": b"new"})
    shutil.copytree(world.dest / "d", world.dest / "d/e")
    _, *rest = told(world)
    changing = {event.path: event for event in rest if isinstance(event, Changing)}
    assert changing[b"b"].differs == "s"
    assert changing[b"a"].differs == "c"
    assert changing[b"f"].is_new
    assert all(changing[name].is_update for name in (b"a", b"b", b"f"))
    removing = [(event.path, event.kind) for event in rest if isinstance(event, Removing)]
    assert removing == [(b"d/e/f", "f"), (b"d/e", "d"), (b"d/f", "f"), (b"d", "d")]
