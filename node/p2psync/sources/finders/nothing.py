"""Why no head of an archive was found: who was asked, what came of it, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from p2psync.format.url import archive_text
from p2psync.network.way import Way, named
from p2psync.sources.swarm import Member


def no_head(archive: bytes, given: Iterable[Member], way: Way) -> str:
    """The sentence, with the sources that were ``given`` and the ``way`` into the network."""
    asked = list(given)
    nodes = [member for member in asked if not member.content.by_path]
    said = named(map(_of_source, asked))
    if way.contacts:
        said.append(f"{way}, and nobody there knows it")
    elif way.tried or way.closed or not nodes:
        said.append(str(way))
    what = f"no head of p2psync://{archive_text(archive)} was found"
    return f"{what}: {', '.join(said)}; {_remedy(nodes, way)}"


def heard(given: Iterable[Member], way: Way) -> bool:
    """Whether anybody answered who could have known of the archive."""
    return bool(way.contacts) or any(member.answered for member in given)


def _of_source(member: Member) -> str:
    if member.content.by_path and not member.last_error:
        return f"{member.name} is taken for a plain web server, and has no static files of this archive"
    if member.answered:
        return f"{member.name} does not have this archive"
    return member.last_error or f"{member.name} did not answer in time"


def _remedy(nodes: list[Member], way: Way) -> str:
    others = "--bootstrap HOST:PORT of a node, or --source HOST:PORT of a mirror"
    if heard(nodes, way):
        return (
            "check that the URL is the one that its publisher gives, and that the publisher's node or a "
            "mirror runs in this network"
        )
    if nodes or way.tried:
        return f"check these addresses and the firewalls between (UDP and TCP), or give others: {others}"
    return f"give {others}"
