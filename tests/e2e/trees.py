"""Trees for the end-to-end tests: large enough to be shared, and as odd as file systems allow."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from tests.e2e.harness import set_mtime

KIB = 1 << 10
MIB = 1 << 20
YEAR_NS = 365 * 86400 * 10**9


def fill(path: Path, size: int, seed: object) -> Path:
    """A file of random bytes that follow from ``seed``, with a time in the past that does too."""
    chance = random.Random(str(seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(chance.randbytes(size))
    set_mtime(path, chance.randrange(10**18, 16 * 10**17))
    return path


def remove_tree(root: Path) -> None:
    """Remove a tree with directories that deny even their owner writing."""
    for directory, _, _ in os.walk(root):
        Path(directory).chmod(0o700)
    shutil.rmtree(root)


def plain_tree(root: Path, *, small: int = 0, large: tuple[int, ...] = (), seed: object = 0) -> Path:
    """``small`` files of up to 12 KiB in directories of 50, and large ones of the sizes given."""
    chance = random.Random(f"{seed} sizes")
    root.mkdir(parents=True, exist_ok=True)
    for number in range(small):
        fill(
            root / f"d{number // 50:02}" / f"s{number:04}",
            chance.randrange(1, 12 * KIB),
            f"{seed} small {number}",
        )
    for number, size in enumerate(large):
        fill(root / "large" / f"l{number}", size, f"{seed} large {number}")
    return root


def odd_tree(root: Path, *, small: int = 300, large: tuple[int, ...] = (), seed: object = 0) -> Path:
    """Everything that is hard to copy faithfully: names, modes, times, links, empties, duplicates.

    Modes that deny their owner reading are made by root alone, who can publish such files.
    """
    plain_tree(root, small=small, large=large, seed=seed)
    odd = root / "odd"
    _odd_names(odd / "names")
    (odd / "empty directory").mkdir()
    (odd / "empty file").touch()
    (odd / "relative").symlink_to("../d00")
    (odd / "dangling").symlink_to("no such thing \N{SNOWMAN}")
    (odd / "absolute").symlink_to("/nowhere/at all")
    os.symlink(b"not utf-8 \xff", os.fsencode(odd) + b"/link \xfe")
    _odd_modes(odd / "modes")
    times = [0, 1, -1, -(10**9), -30 * YEAR_NS - 123_456_789, 999_999_999, 17 * 10**17 + 1]
    for number, mtime_ns in enumerate(times):
        set_mtime(fill(odd / "times" / f"t{number}", 100 + number, f"time {number}"), mtime_ns)
        set_mtime(odd / "empty file", mtime_ns)
        set_mtime(odd / "dangling", mtime_ns)
    twin = (root / "large" / "l0").read_bytes() if large else b"twice the same" * 10_000
    for name in ("twin one", "twin two"):
        (odd / name).write_bytes(twin)
    locked = odd / "read-only directory"
    fill(locked / "inside", 5000, "inside")
    (locked / "below").mkdir()
    fill(locked / "below" / "file", 70_000, "below")
    (locked / "below").chmod(0o555)
    locked.chmod(0o555)
    for number, directory in enumerate((locked / "below", locked, odd / "times", odd)):
        set_mtime(directory, 10**18 + number)
    return root


def _odd_names(directory: Path) -> None:
    raw = [
        b"not utf-8 \xff\xfe",
        b"new\nline",
        b"-rf",
        b"--delete",
        b" space ",
        b"tab\tand \x1b[31m escape",
        b"\x7f\x01",
        b"x" * 255,
        "ünï".encode(),
        b"[bold]red[/]",
        b"back\\slash",
        b"'quotes\"",
        b"...",
        b"*?",
        b".p2psync",  # Kept for itself by p2psync at the root alone.
    ]
    directory.mkdir(parents=True)
    for number, name in enumerate(raw):
        fill(directory / os.fsdecode(name), 10 * number, f"name {number}")
    fill(directory / os.fsdecode(b"dir \xff") / "\n", 3000, "in an odd directory")


def _odd_modes(directory: Path) -> None:
    modes = {0o400, 0o444, 0o600, 0o644, 0o755, 0o4755, 0o2755, 0o1644, 0o6755, 0o7777, 0o7400}
    if os.geteuid() == 0:
        modes |= {0o000, 0o7000, 0o111, 0o222, 0o077} | {1 << bit for bit in range(12)}
    for mode in modes:
        fill(directory / f"m{mode:04o}", 1000 + mode, f"mode {mode}").chmod(mode)
        if mode & 0o700 == 0o700 or os.geteuid() == 0:
            fill(directory / f"dir{mode:04o}" / "file", 10, f"dir {mode}")
            (directory / f"dir{mode:04o}").chmod(mode)


def change_some(root: Path, *, every: int, seed: object) -> list[Path]:
    """Change one byte of each ``every``-th small file of a plain tree; those that were changed."""
    changed = [path for path in sorted(root.glob("d*/s*")) if int(path.name[1:]) % every == 0]
    for path in changed:
        data = bytearray(path.read_bytes())
        data[random.Random(f"{seed} {path.name}").randrange(len(data))] ^= 0xFF
        path.write_bytes(data)
    return changed
