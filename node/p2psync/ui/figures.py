"""The figures of a `Progress` in words, what matters most first: both displays say the same. Pure."""

from __future__ import annotations

from p2psync.progress import Progress, SourceProgress
from p2psync.text import count, duration, rate, share, size


def headline(now: Progress) -> list[str]:
    """The share that is done, where there is a total, and the time left or the silence."""
    words = []
    if now.total_bytes or now.total_files:
        words.append(share(now.fraction, 1.0))
    if now.stalled is not None:
        words.append(f"stalled for {duration(now.stalled)}")
    elif now.eta is not None:
        words.append(f"{duration(now.eta)} left")
    return words


def figures(now: Progress) -> list[str]:
    """The rest of the state, but for sources."""
    words = []
    if now.total_bytes:
        words.append(f"{size(now.bytes)} of {size(now.total_bytes)}")
    elif now.bytes:
        words.append(size(now.bytes))
    if now.rate:
        words.append(rate(now.rate))
    if now.total_files:
        words.append(f"{now.files:,} of {count(now.total_files, 'file')}")
    elif now.files:
        words.append(count(now.files, "file"))
    words.append(f"{duration(now.seconds)} so far")
    if now.reused:
        words.append(f"reused {size(now.reused)}")
    return [*words, *upload(now)]


def upload(now: Progress) -> list[str]:
    """What others are given; nothing if nobody was."""
    if not (now.sent or now.peers):
        return []
    words = [f"up {rate(now.sent_rate)}"]
    if now.peers:
        words[0] += f" to {count(now.peers, 'peer')}"
    return [*words, f"{size(now.sent)} given"]


def has_answered(source: SourceProgress) -> bool:
    """Whether a source is worth a line: those that never sent anything are not, but for liars."""
    return source.received > 0 or source.rate > 0 or source.state == "banned"
