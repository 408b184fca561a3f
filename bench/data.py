"""The trees that are published and fetched: made of pseudo-random bytes that no one can compress or find
twice.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from bench.processes import BenchError, need

BLOCK: Final = 4 << 20
FILES_OF_A_DIRECTORY: Final = 100
MTIME_NS: Final = 1_700_000_000_123_456_789
"""Of all files: old enough that nobody takes them for files that change right now."""


class Noise:
    """A stream of bytes, the same for each seed: AES-CTR, several gigabytes a second where the processor
    helps.
    """

    def __init__(self, seed: int) -> None:
        self._stream = Cipher(
            algorithms.AES(seed.to_bytes(16, "big")), modes.CTR(b"p2psync noise..."[:16])
        ).encryptor()

    def read(self, size: int) -> bytes:
        return self._stream.update(bytes(size))


def one_file(root: Path, size: int, seed: int = 1) -> Path:
    """A tree of one file of ``size`` bytes."""
    root.mkdir(parents=True)
    noise = Noise(seed)
    with (root / "file").open("wb", buffering=0) as file:
        for start in range(0, size, BLOCK):
            file.write(noise.read(min(BLOCK, size - start)))
    _date(root / "file")
    _date(root)
    return root


def many_files(root: Path, count: int, size: int, seed: int = 1) -> Path:
    """``count`` files, together about ``size`` bytes, spread as in real trees: many small ones, a few large
    ones. A hundred in a directory, ten such directories in one above.
    """
    chance, noise = random.Random(seed), Noise(seed)
    weights = [chance.lognormvariate(0, 1.5) for _ in range(count)]
    scale = size / sum(weights)
    root.mkdir(parents=True)
    folders = [root]
    for number, weight in enumerate(weights):
        hundred = number // FILES_OF_A_DIRECTORY
        folder = root / f"{hundred // 10:04}" / f"{hundred % 10}"
        if number % FILES_OF_A_DIRECTORY == 0:
            folder.mkdir(parents=True)
            folders += [folder.parent, folder]
        path = folder / f"file{number}"
        path.write_bytes(noise.read(max(1, int(weight * scale))))
        _date(path)
    for folder in reversed(folders):
        _date(folder)
    return root


def _date(path: Path) -> None:
    os.utime(path, ns=(MTIME_NS, MTIME_NS))


def size_of(tree: Path) -> int:
    """Bytes in the files of a tree."""
    return sum(entry.stat().st_size for entry in files_of(tree))


def files_of(tree: Path) -> list[Path]:
    """All files of a tree, in a fixed order."""
    return sorted(Path(folder) / name for folder, _, names in os.walk(os.fspath(tree)) for name in names)


def assert_equal(tree: Path, copy: Path, *, with_times: bool) -> None:
    """Raise BenchError unless rsync finds the same names and bytes in both; with times and modes too, if
    wanted.
    """
    kept = ["-rlpt"] if with_times else ["-rl"]
    argv = [need("rsync"), *kept, "-ni", "--checksum", "--delete", f"{tree}/", f"{copy}/"]
    found = subprocess.run(argv, check=True, capture_output=True).stdout.decode(errors="backslashreplace")
    if found:
        raise BenchError(f"{copy} does not equal {tree}: {found[:500]}")


def clear(*paths: Path) -> None:
    """Remove trees, those that are not there as well."""
    for path in paths:
        if path.exists():
            shutil.rmtree(path)
