"""File systems for one run: images and directories that are mounted for it, and unmounted after it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

IMAGE_BYTES: Final = 64 << 20
"""Of a file system in an image: room for all circumstances, one after the other."""
BTRFS_IMAGE_BYTES: Final = 128 << 20
"""btrfs makes none that is much smaller."""


class Unavailable(Exception):
    """This machine cannot mount that file system."""


def command(*argv: object) -> str:
    """Run a program; its output. Raises Unavailable where it is missing or fails."""
    words = [str(each) for each in argv]
    found = shutil.which(words[0], path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        raise Unavailable(f"{words[0]} is not installed")
    done = subprocess.run([found, *words[1:]], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{words[0]}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return done.stdout


@contextlib.contextmanager
def _mounted(at: Path, *argv: object) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    command(*argv)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], capture_output=True, check=False)


def _image(folder: Path, size: int, *make: object) -> Path:
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(size)
    command(*make, image)
    return image


@contextlib.contextmanager
def _loop(image: Path) -> Iterator[str]:
    device = command("losetup", "--find", "--show", image).strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)


@contextlib.contextmanager
def ext4(folder: Path) -> Iterator[Path]:
    image = _image(folder, IMAGE_BYTES, "mkfs.ext4", "-q")
    with _mounted(folder / "mount", "mount", "-o", "loop", image, folder / "mount") as at:
        yield at


@contextlib.contextmanager
def btrfs(folder: Path) -> Iterator[Path]:
    image = _image(folder, BTRFS_IMAGE_BYTES, "mkfs.btrfs", "-q")
    with _mounted(folder / "mount", "mount", "-o", "loop", image, folder / "mount") as at:
        yield at


@contextlib.contextmanager
def tmpfs(folder: Path) -> Iterator[Path]:
    options = f"size={IMAGE_BYTES}"
    with _mounted(folder / "mount", "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder / "mount") as at:
        yield at


def _layers(folder: Path) -> str:
    for name in ("lower", "upper", "work"):
        (folder / name).mkdir()
    return f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"


@contextlib.contextmanager
def overlay(folder: Path) -> Iterator[Path]:
    layers = _layers(folder)
    with _mounted(
        folder / "mount", "mount", "-t", "overlay", "-o", layers, "overlay", folder / "mount"
    ) as at:
        yield at


@contextlib.contextmanager
def fuse_overlay(folder: Path) -> Iterator[Path]:
    layers = _layers(folder)
    with _mounted(folder / "mount", "fuse-overlayfs", "-o", f"{layers},allow_other", folder / "mount") as at:
        yield at


@contextlib.contextmanager
def exfat(folder: Path) -> Iterator[Path]:
    image = _image(folder, IMAGE_BYTES, "mkfs.exfat")
    (folder / "mount").mkdir()
    with (
        _loop(image) as device,
        _mounted(folder / "mount", "mount.exfat-fuse", "-o", "allow_other", device, folder / "mount") as at,
    ):
        yield at


@contextlib.contextmanager
def ntfs(folder: Path) -> Iterator[Path]:
    image = _image(folder, IMAGE_BYTES, "mkntfs", "-F", "-q")
    options = "windows_names,ignore_case"
    (folder / "mount").mkdir()
    with _mounted(folder / "mount", "lowntfs-3g", "-o", options, image, folder / "mount") as at:
        yield at


FILE_SYSTEMS: Final[dict[str, Callable[[Path], contextlib.AbstractContextManager[Path]]]] = {
    "ext4": ext4,
    "tmpfs": tmpfs,
    "btrfs": btrfs,
    "overlay": overlay,
    "fuse-overlay": fuse_overlay,
    "exfat": exfat,
    "ntfs": ntfs,
}
"""By name, each a context manager: given an empty folder, where it is mounted."""
WITHOUT_MODES: Final = frozenset({"exfat", "ntfs"})
"""Those that take a mode and forget it."""
