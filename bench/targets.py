"""What each figure of publishing and fetching is, and what p2psync is to reach in it. Nothing is measured
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench.figures import OURS, Figure, Series


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit for our median: ``limit`` times that of the contestant ``of``, or an absolute value if it is
    empty.
    """

    limit: float
    of: str = ""
    at_least: bool = False

    def reached(self, contestants: Mapping[str, Series]) -> tuple[float, bool] | None:
        """What is compared with the limit, and whether it holds; None where something was not measured."""
        ours = contestants[OURS].median if OURS in contestants else None
        theirs = 1.0 if not self.of else contestants[self.of].median if self.of in contestants else None
        if ours is None or not theirs:
            return None
        value = ours / theirs
        return value, value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Kind:
    """What a figure is: its unit, how many digits of it are shown, the contestant whom ratios are taken of,
    the bounds of ours.
    """

    row: str
    name: str
    unit: str
    digits: int
    peer: str = ""
    bounds: tuple[Bound, ...] = ()

    def text(self, value: float) -> str:
        return f"{value:,.{self.digits}f} {self.unit}".strip()

    def bound_text(self, bound: Bound) -> str:
        sign = "≥" if bound.at_least else "≤"
        return f"{sign} {bound.limit:g} of {bound.of}" if bound.of else f"{sign} {self.text(bound.limit)}"

    def missed(self, figure: Figure) -> bool:
        """Whether a bound was measured at full size and does not hold."""
        told = [bound.reached(figure.contestants) for bound in self.bounds] if figure.full else []
        return any(one is not None and not one[1] for one in told)


def _wall(row: str, *bounds: Bound, peer: str = "rsync") -> Kind:
    return Kind(row, "wall", "s", 2, peer, bounds)


def _memory(row: str, name: str, limit: float = 150) -> Kind:
    """Proportional set size, all processes of a side together: what it takes from the machine."""
    return Kind(row, name, "MB", 0, "rsync", (Bound(limit),))


def _line(row: str, share: float) -> Kind:
    return Kind(row, "share of the line rate", "%", 1, "aria2c", (Bound(share, at_least=True),))


AS_RSYNC: Final = Bound(1.0, "rsync")
KINDS: Final = (
    _wall("big", Bound(0.9, "rsync"), Bound(0.6, "aria2c")),
    Kind("big", "CPU of both ends", "s", 2, "rsync", (AS_RSYNC, Bound(1.0, "aria2c"))),
    _wall("small", AS_RSYNC),
    Kind("small", "CPU of both ends", "s", 2, "rsync"),
    _wall("tiny", AS_RSYNC),
    Kind("tiny", "CPU of both ends", "s", 2, "rsync"),
    _wall("nochange", Bound(0.5, "rsync")),
    Kind("nochange", "CPU of the client", "s", 2, "rsync"),
    Kind("nochange", "received", "kB", 2, "rsync", (Bound(2),)),
    Kind("nochange", "system calls of the server", "", 0, "rsync", (Bound(50),)),
    _wall("trusted"),
    Kind("trusted", "beyond start-up", "s", 3, bounds=(Bound(0.3),)),
    _wall("publish-big", Bound(1.0, "libtorrent"), Bound(2.0, "reading"), peer="libtorrent"),
    Kind("publish-big", "CPU", "s", 2, "libtorrent"),
    _memory("publish-big", "memory", 100),
    _wall("publish-small", Bound(1.0, "libtorrent"), Bound(2.0, "reading"), peer="libtorrent"),
    Kind("publish-small", "CPU", "s", 2, "libtorrent"),
    _memory("publish-small", "memory", 100),
    _wall("republish", peer="find -printf"),
    Kind("republish", "beyond start-up", "s", 3, "find -printf", (Bound(2.0, "find -printf"),)),
    Kind("web", "received", "MB/s", 0, "aria2c", (Bound(800, at_least=True),)),
    Kind("web", "share that nginx sent", "%", 1),
    _wall("fixed", Bound(0.2)),
    Kind("help", "CPU", "ms", 0, bounds=(Bound(150),)),
    *(
        _memory(row, f"memory of the {side}")
        for row in ("memory-file", "memory-files")
        for side in ("publisher", "server", "client", "client, nothing changed")
    ),
    _line("links-equal", 94),
    _line("links-slow", 92),
    _line("links-silent", 92),
    _line("links-lying", 93),
    Kind("links-lying", "sent by the liar", "MB", 2, "aria2c", (Bound(1),)),
    Kind("crowd", "last client, of the optimum", "×", 2, "libtorrent", (Bound(1.35),)),
    Kind("crowd", "sent by the origin", "files", 2, "libtorrent", (Bound(1.2),)),
)
BY_NAME: Final = {(kind.row, kind.name): kind for kind in KINDS}
