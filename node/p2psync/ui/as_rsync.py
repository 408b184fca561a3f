"""A fetch told in rsync's words: its lines on the standard output and in the file of --log-file, byte for
byte, for the programs that read them. What is written when is ``rsync.wishes``'s business.

Lines of changes come before the change, in rsync's order. Bytes are those of P2P: "received" is all that came
from anybody, "sent" what was given to others, "literal" what came of the content, "matched" what was here.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import BinaryIO, Final, NamedTuple

from p2psync.events import Changing, Event, FileDone, Received, Removing, Unsafe, Warned, Whole
from p2psync.rsync.figures import fraction, name, number, rate
from p2psync.rsync.wishes import ESCAPE, NAMES, Wishes, has

DELETING: Final = "deleting %n"
PROGRESS_EVERY: Final = 1.0
"""Seconds between two lines of progress, as in rsync."""
DIRECTORY_SIZE: Final = 4096
"""What %l says of a directory: archives have no such size, and this is what most file systems say."""
ERRORS: Final = {
    10: "error in socket IO",
    11: "error in file IO",
    12: "error in rsync protocol data stream",
    20: "received SIGINT, SIGTERM, or SIGHUP",
    23: "some files/attrs were not transferred (see previous errors)",
    25: "the --max-delete limit stopped deletions",
    30: "timeout in data send/receive",
    35: "timeout waiting for daemon connection",
}
"""Exit code -> rsync's words, of those that a fetch ends with (rsync's errcode.h)."""
_KINDS: Final = {"f": "reg", "d": "dir", "L": "link", "S": "special"}
_LETTERS: Final = "cstpoguax"
"""Of %i, behind the first two."""


class Totals(NamedTuple):
    """The bytes of a fetch: what was given to others, and what came."""

    sent: int
    received: int


class AsRsync:
    """Hears the events of one fetch. ``prefix``: what names begin with, "" where the content of SRC is
    fetched. ``utf8``: the user's locale. ``has_root``: DEST itself takes part, as it does without a list of
    names. ``warn`` hears what is wrong.
    """

    def __init__(
        self,
        wishes: Wishes,
        out: BinaryIO,
        log: BinaryIO | None,
        warn: Callable[[str], None],
        *,
        prefix: bytes = b"",
        utf8: bool = True,
        has_root: bool = True,
    ) -> None:
        self._wishes = wishes
        self._out = out
        self._log_file = log
        self._warn = warn
        self._prefix = prefix
        self._utf8 = utf8
        self._roots = int(has_root)
        self._started = time.time()
        self._whole = Whole(0, 0, 0, 0, 0)
        self._created: str | None = None
        self._made: Counter[str] = Counter()
        self._removed: Counter[str] = Counter()
        self._updated = 0
        self._updated_bytes = 0
        self._literal = 0
        self._done = 0
        self._done_bytes = 0
        self._progress_at = 0.0

    # As it begins.

    def begin(self, created: str | None) -> None:
        """``created``: DEST, where it had to be made. Nothing is written before it is known that there is
        something to fetch: until then, the real rsync may have to do it.
        """
        self._created = created

    def _begin(self) -> None:
        self._log("receiving file list")
        if self._wishes.flist and self._wishes.is_incremental:
            self._say("receiving incremental file list")
        elif self._wishes.flist:
            end = "done"
            if self._wishes.progress:
                end = f"{number(self._count(), min(self._wishes.human, 1))} files to consider"
            self._say(f"receiving file list ... {end}")
            self._log(end)
        if self._created is not None and self._wishes.creation:
            self._tell(f"created directory {self._created}")

    # Meanwhile.

    def hear(self, event: Event) -> None:
        if isinstance(event, Changing):
            self._change(event)
        elif isinstance(event, Received):
            self._literal += event.bytes
            self._show_progress()
        elif isinstance(event, FileDone):
            self._file(event)
        elif isinstance(event, Removing):
            self._remove(event)
        elif isinstance(event, Whole):
            self._whole = event
            self._begin()
        elif isinstance(event, Unsafe):
            if self._wishes.unsafe:
                name_, target = self._prefix + event.path, event.target
                self._tell(b'ignoring unsafe symlink "%b" -> "%b"' % (name_, target))
        elif isinstance(event, Warned):
            self._warn(event.text)

    def _change(self, change: Changing) -> None:
        if not (change.path or self._roots):
            return
        if change.is_new:
            self._made[_KINDS[change.kind]] += 1
        if change.is_update:
            self._updated += 1
            self._updated_bytes += change.size
        is_made = change.is_new or change.is_update or "c" in change.differs
        if not (self._wishes.itemizes or is_made or change.kind == "d"):
            return
        later = self._wishes.progress == 1 and self._wishes.format == NAMES and not self._wishes.dry_run
        if self._wishes.format is not None and not (later and change.is_update):
            self._say(self._filled(self._wishes.format, change))
        self._log(self._filled(self._wishes.log_format, change))

    def _remove(self, removing: Removing) -> None:
        self._removed[_KINDS[removing.kind]] += 1
        told = Changing(removing.path, removing.kind, False, "", False, 0, 0, removing.mode)
        for text, write, wanted in (
            (self._wishes.format, self._say, self._wishes.deletions),
            (self._wishes.log_format, self._log, True),
        ):
            if text is not None or wanted:
                shown = text if has(text, "i") or has(text, "o") else DELETING
                write(self._filled(shown or DELETING, told, deleted=True))

    def _file(self, done: FileDone) -> None:
        self._done += 1
        self._done_bytes += done.size
        if self._wishes.progress == 1:
            if self._wishes.format == NAMES:
                self._say(self._prefix + done.path)
            self._write(f"\r{self._amounts(done.size, 100)} {self._place()}\n".encode())
        self._show_progress(at_once=True)

    def _show_progress(self, *, at_once: bool = False) -> None:
        """A line of --info=progress2, which is drawn over by the next one."""
        if self._wishes.progress < 2:
            return
        now = time.monotonic()
        if at_once or now - self._progress_at >= PROGRESS_EVERY:
            self._progress_at = now
            end = self._place() if at_once else " "
            self._write(f"\r{self._amounts(*self._overall())} {end}".encode())

    def _overall(self) -> tuple[int, int]:
        done = max(self._done_bytes, min(self._literal, self._updated_bytes))
        return done, 100 * done // max(self._whole.bytes + self._whole.link_bytes, 1)

    def _amounts(self, amount: int, percent: int) -> str:
        seconds = max(time.time() - self._started, 0.001)
        left = f"{int(seconds) // 3600:4d}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"
        speed = rate(max(self._done_bytes, self._literal) / seconds)
        return f"{number(amount, self._wishes.human):>15} {percent:3d}% {speed} {left}"

    def _place(self) -> str:
        left = max(self._updated - self._done, 0)
        return f"(xfr#{self._done}, to-chk={left}/{self._count()})"

    def _count(self) -> int:
        """All names, DEST itself among them where it takes part."""
        return self._whole.files + self._whole.dirs + self._whole.links + self._roots

    # As it ends.

    def end(self, totals: Totals, code: int) -> None:
        """The last lines, with the exit code."""
        if self._wishes.progress > 1 and self._done:
            self._write(f"\r{self._amounts(*self._overall())} {self._place()}\n".encode())
        human = self._wishes.human
        size = self._whole.bytes + self._whole.link_bytes
        if self._wishes.stats > 1:
            self._blank()
            for line in self._statistics(totals, size):
                self._tell(line)
        if self._wishes.stats:
            both = totals.sent + totals.received
            pace = both / (0.5 + int(time.time()) - int(self._started))
            self._blank()
            self._tell(
                f"sent {number(totals.sent, human)} bytes  received {number(totals.received, human)} bytes  "
                f"{fraction(pace, human)} bytes/sec"
            )
            speedup = fraction(size / max(both, 1), min(human, 1))
            end = " (DRY RUN)" if self._wishes.dry_run else ""
            self._tell(f"total size is {number(size, human)}  speedup is {speedup}{end}")
        elif not code:
            self._log(f"sent {totals.sent} bytes  received {totals.received} bytes  total size {size}")
        if code:
            self.fail(code)

    def fail(self, code: int) -> None:
        """How it ended otherwise."""
        self._log(f"rsync error: {ERRORS.get(code, 'unexplained error')} (code {code}) at p2psync")

    def _statistics(self, totals: Totals, size: int) -> list[str]:
        human = self._wishes.human
        whole = self._whole
        there = Counter({"reg": whole.files, "dir": whole.dirs + self._roots, "link": whole.links})
        literal = min(self._literal, self._updated_bytes)
        matched = 0 if self._wishes.dry_run else self._updated_bytes - literal
        return [
            f"Number of files: {self._counts(there)}",
            f"Number of created files: {self._counts(self._made)}",
            f"Number of deleted files: {self._counts(self._removed)}",
            f"Number of regular files transferred: {number(self._updated, min(human, 1))}",
            f"Total file size: {number(size, human)} bytes",
            f"Total transferred file size: {number(self._updated_bytes, human)} bytes",
            f"Literal data: {number(literal, human)} bytes",
            f"Matched data: {number(matched, human)} bytes",
            f"File list size: {number(0, human)}",
            "File list generation time: 0.001 seconds",
            "File list transfer time: 0.000 seconds",
            f"Total bytes sent: {number(totals.sent, human)}",
            f"Total bytes received: {number(totals.received, human)}",
        ]

    def _counts(self, counts: Counter[str]) -> str:
        human = min(self._wishes.human, 1)
        kinds = ", ".join(
            f"{kind}: {number(counts[kind], human)}" for kind in _KINDS.values() if counts[kind]
        )
        return number(counts.total(), human) + (f" ({kinds})" if kinds else "")

    # Lines.

    def _filled(self, text: str, change: Changing, *, deleted: bool = False) -> bytes:
        made = b""
        end = 0
        for found in ESCAPE.finditer(text):
            made += os.fsencode(text[end : found.start()])
            value = self._value(found[2], change, deleted=deleted)
            width = int(found[1]) if found[1] not in ("", "-") else 0
            made += value.rjust(width) if width >= 0 else value.ljust(-width)
            end = found.end()
        return made + os.fsencode(text[end:])

    def _value(self, letter: str, change: Changing, *, deleted: bool) -> bytes:
        if letter == "i":
            return b"*deleting  " if deleted else itemized(change).encode()
        if letter == "o":
            return b"del." if deleted else b"recv"
        if letter in "nf":
            path = (self._prefix + change.path or b".").removesuffix(b"/")
            return path + b"/" * (letter == "n" and change.kind == "d")
        if letter == "L":
            return b" -> " + change.target if change.target else b""
        return self._plain(letter, change, deleted=deleted).encode()

    def _plain(self, letter: str, change: Changing, *, deleted: bool) -> str:
        """The escapes that are no names."""
        if letter == "l":
            return str(DIRECTORY_SIZE if change.kind == "d" and not deleted else change.size)
        if letter == "M":
            return time.strftime("%Y/%m/%d-%H:%M:%S", time.localtime(change.mtime_ns // 10**9))
        if letter == "B":
            return _permissions(change.mode)
        return time.strftime("%Y/%m/%d %H:%M:%S") if letter == "t" else str(os.getpid())

    def _tell(self, line: str | bytes) -> None:
        if not self._wishes.is_quiet:
            self._say(line)
        self._log(line)

    def _blank(self) -> None:
        if not self._wishes.is_quiet:
            self._write(b"\n")

    def _say(self, line: str | bytes) -> None:
        raw = line if isinstance(line, bytes) else os.fsencode(line)
        self._write(name(raw, utf8=self._utf8, eight_bit=self._wishes.eight_bit) + b"\n")

    def _write(self, raw: bytes) -> None:
        self._out.write(raw)
        self._out.flush()

    def _log(self, line: str | bytes) -> None:
        if self._log_file is not None:
            raw = line if isinstance(line, bytes) else os.fsencode(line)
            stamp = f"{time.strftime('%Y/%m/%d %H:%M:%S')} [{os.getpid()}] ".encode()
            # As it is, but for what would end the line.
            self._log_file.write(stamp + name(raw, utf8=True, eight_bit=True) + b"\n")
            self._log_file.flush()


def itemized(change: Changing) -> str:
    """The eleven letters of %i (rsync(1), --itemize-changes).

    >>> itemized(Changing(b"a", "f", False, "st", True, 1, 0, 0o644))
    '>f.st......'
    """
    if change.is_new:
        return ("c" if change.kind != "f" else ">") + change.kind + "+" * len(_LETTERS)
    first = ">" if change.is_update else "c" if change.kind == "L" and "c" in change.differs else "."
    return first + change.kind + "".join(c if c in change.differs else "." for c in _LETTERS)


def _permissions(mode: int) -> str:
    """As ls(1) shows them, without the kind.

    >>> _permissions(0o4755), _permissions(0o1640)
    ('rwsr-xr-x', 'rw-r----T')
    """
    letters = ["rwx"[at % 3] if mode >> (8 - at) & 1 else "-" for at in range(9)]
    for bit, at, letter in ((0o4000, 2, "s"), (0o2000, 5, "s"), (0o1000, 8, "t")):
        if mode & bit:
            letters[at] = letter if letters[at] == "x" else letter.upper()
    return "".join(letters)
