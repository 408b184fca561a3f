"""The circumstances: each sets up a source and a destination, and says after which step the program runs.

A circumstance is a generator: at each ``yield`` the program under test makes DEST like the source, and what
came of the last time is compared. Its docstring is what the table calls it.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.circumstances.stage import Outcome, Program, Stage

Case = Callable[[Stage], Iterator[None]]
ALL: Final = ("ext4", "tmpfs", "btrfs", "overlay", "fuse-overlay", "exfat", "ntfs")
LOWER: Final = ("overlay", "fuse-overlay")
BOTH: Final = (False, True)
ROOT: Final = (False,)
PLAIN: Final = (True,)


class Circumstance(NamedTuple):
    """One circumstance, and where it can arise."""

    name: str
    what: str
    run: Case
    places: tuple[str, ...]
    plain: tuple[bool, ...]
    """As whom the program runs: a plain user, or root."""
    quick: bool
    """Whether it needs no file system of its own, and a moment."""
    left: frozenset[str]
    """What rsync makes right there and p2psync does not."""

    def outcome(
        self, program: Program, folder: Path, place: Path, *, plain: bool, no_modes: bool = False
    ) -> Outcome:
        """Set it up in ``folder``, with DEST in ``place``, run the program, and say what came of it."""
        came = Outcome(-1, ["it was not run"])
        stage = Stage(folder, place, plain=plain)
        stage.no_modes = no_modes
        with stage.stack:
            for _ in self.run(stage):
                came = program.run(stage)
            came.wrong = stage.wrong()
        return came


CIRCUMSTANCES: Final[list[Circumstance]] = []


def circumstance(
    places: tuple[str, ...] = ("ext4", "tmpfs"),
    plain: tuple[bool, ...] = BOTH,
    *,
    quick: bool = True,
    left: Iterable[str] = (),
) -> Callable[[Case], Case]:
    """Note a circumstance."""

    def note(case: Case) -> Case:
        what = (case.__doc__ or "").strip().rstrip(".")
        name = case.__name__.replace("_", "-")
        CIRCUMSTANCES.append(Circumstance(name, what, case, places, plain, quick, frozenset(left)))
        return case

    return note


def others(stage: Stage) -> None:
    """Files that no trouble concerns: they are to come in every case."""
    stage.write("aa/first", "first")
    stage.write("zz/last", "last" * 30_000)
    stage.write("zzz", "last of all")


# What the file system cannot hold.


@circumstance(places=("ext4", "tmpfs", "btrfs", "overlay", "fuse-overlay", "exfat", "ntfs"), plain=BOTH)
def nothing_special(stage: Stage) -> Iterator[None]:
    """Files, directories and nothing else; fetched twice."""
    others(stage)
    yield
    yield


@circumstance(places=("ext4", "tmpfs", "btrfs", "exfat", "ntfs"), plain=BOTH)
def symbolic_links(stage: Stage) -> Iterator[None]:
    """Symbolic links, one of them with a target of 4,095 bytes."""
    others(stage)
    (stage.source / "mid").mkdir()
    (stage.source / "mid" / "link").symlink_to("../zzz")
    (stage.source / "mid" / "long").symlink_to(("x" * 62 + "/") * 65)
    yield


@circumstance(places=("ext4", "exfat", "ntfs"))
def refused_characters(stage: Stage) -> Iterator[None]:
    """Names with characters that Windows refuses: `:` `?` `*` `|`, in files, directories and links."""
    others(stage)
    for name in ("a:b", "what?", "all*", "this|that", "trailing.", "trailing ", "con", "dir:/inside/file"):
        stage.write(f"mid/{name}", name)
    yield


@circumstance(places=("ext4", "exfat", "ntfs"))
def names_that_are_no_text(stage: Stage) -> Iterator[None]:
    """Names that are not UTF-8."""
    others(stage)
    with open(os.fsencode(stage.source) + b"/aa/caf\xe9", "wb") as file:
        file.write(b"coffee" + stage.mark)
    os.mkdir(os.fsencode(stage.source) + b"/b\xff")
    with open(os.fsencode(stage.source) + b"/b\xff/inside", "wb") as file:
        file.write(b"inside" + stage.mark)
    yield


@circumstance(places=("ext4", "exfat", "ntfs"))
def names_of_different_case(stage: Stage) -> Iterator[None]:
    """Files and directories whose names differ in upper and lower case only."""
    others(stage)
    for name in ("mid/README", "mid/readme", "Dir/one", "dir/two", "mid/Link"):
        stage.write(name, name)
    yield


@circumstance(plain=BOTH, quick=False)
def file_size_limit(stage: Stage) -> Iterator[None]:
    """A file over the limit of the file system or the process (EFBIG)."""
    others(stage)
    stage.limit = 36 << 20
    stage.write("mid/large", b"0123456789abcdef" * (40 << 16))
    yield


def large(stage: Stage) -> None:
    """A file of 200 MiB that has no chunk twice."""
    stage.write("mid/large", b"")
    os.truncate(stage.source / "mid" / "large", 200 << 20)
    with (stage.source / "mid" / "large").open("r+b") as file:
        for position in range(0, 200 << 20, 1 << 16):
            file.seek(position)
            file.write(b"%d" % position * 1000 + stage.mark)


@circumstance(
    places=("ext4", "tmpfs", "exfat", "ntfs"),
    plain=ROOT,
    quick=False,
    left=["aa/", "aa/first", "mid/", "zz/", "zz/last", "zzz"],
)
def larger_than_the_disk(stage: Stage) -> Iterator[None]:
    """A file that is larger than what is free: nothing is begun."""
    others(stage)
    large(stage)
    yield


@circumstance(
    places=("ext4", "tmpfs", "exfat", "ntfs"),
    plain=ROOT,
    quick=False,
    left=["./", "aa/", "aa/first", "mid/", "zz/", "zzz"],
)
def larger_than_the_disk_all_the_same(stage: Stage) -> Iterator[None]:
    """A file that is larger than what is free, with --no-check-space: the run ends there, as rsync's."""
    others(stage)
    large(stage)
    stage.checks_space = False
    yield


# What is not ours.


@circumstance(plain=PLAIN)
def directory_of_another(stage: Stage) -> Iterator[None]:
    """A directory in DEST that is somebody else's, and not writable."""
    others(stage)
    stage.write("mid/new", "new")
    stage.write("mid/below/new", "new")
    stage.there("mid/theirs", foreign=True)
    yield


@circumstance(plain=PLAIN)
def writable_directory_of_another(stage: Stage) -> Iterator[None]:
    """A directory in DEST that is somebody else's, but writable: its mode and time cannot be set."""
    others(stage)
    stage.write("mid/new", "new")
    (stage.dest / "mid").mkdir()
    (stage.dest / "mid").chmod(0o777)
    yield


@circumstance(plain=PLAIN, left=["mid/same"])
def file_of_another(stage: Stage) -> Iterator[None]:
    """A file in DEST that is somebody else's: right in content, wrong in mode and time."""
    others(stage)
    stage.write("mid/same", "same", mode=0o600)
    stage.there("mid/mine", foreign=False)
    path = stage.there("mid/same", "same", foreign=True)
    os.utime(path, (1, 1))
    yield


@circumstance(plain=PLAIN)
def sticky_directory(stage: Stage) -> Iterator[None]:
    """A directory with the sticky bit, with a file of somebody else that is to be replaced or removed."""
    others(stage)
    stage.delete = True
    stage.write("mid/replaced", "new")
    stage.write("mid/own", "new")
    stage.there("mid/replaced", "old and longer", foreign=True)
    stage.there("mid/removed", "old", foreign=True)
    (stage.dest / "mid").chmod(0o1777)
    yield


@circumstance(plain=PLAIN)
def removal_from_another(stage: Stage) -> Iterator[None]:
    """What is to be removed lies in a directory of somebody else."""
    others(stage)
    stage.delete = True
    stage.there("gone/theirs", foreign=True)
    stage.there("mine/gone")
    yield


@circumstance(plain=PLAIN)
def dest_of_another(stage: Stage) -> Iterator[None]:
    """DEST itself is somebody else's, not writable; directories in it are ours."""
    others(stage)
    stage.there("aa/mine")
    os.chown(stage.dest, 0, 0)
    yield


@circumstance(plain=PLAIN)
def dest_without_permission(stage: Stage) -> Iterator[None]:
    """DEST is ours and has mode 0555."""
    others(stage)
    stage.dest.chmod(0o555)
    yield


@circumstance(plain=ROOT, quick=False)
def read_only_file_system(stage: Stage) -> Iterator[None]:
    """A directory below DEST on a file system that is mounted read-only."""
    others(stage)
    stage.write("mid/new", "new")
    stage.mount(stage.dest / "mid")
    subprocess.run(["mount", "-o", "remount,ro", str(stage.dest / "mid")], check=True)
    yield


@circumstance(plain=ROOT, quick=False)
def read_only_dest(stage: Stage) -> Iterator[None]:
    """DEST is mounted read-only."""
    others(stage)
    stage.mount(stage.dest)
    subprocess.run(["mount", "-o", "remount,ro", str(stage.dest)], check=True)
    yield


# Flags of files.


@circumstance(places=("ext4", "btrfs"), plain=BOTH)
def immutable_file(stage: Stage) -> Iterator[None]:
    """Immutable files (chattr +i) that are to be changed, touched and removed."""
    others(stage)
    stage.delete = True
    for name in ("changed", "touched"):
        stage.write(f"mid/{name}", name)
        stage.there(f"mid/{name}", name)
    stage.there("mid/removed")
    stage.write("mid/changed", "changed to something else")
    for name in ("changed", "touched", "removed"):
        stage.flag(stage.dest / "mid" / name, "i")
    yield


@circumstance(places=("ext4", "btrfs"), plain=BOTH)
def append_only_file(stage: Stage) -> Iterator[None]:
    """Append-only files (chattr +a) that are to be changed and removed."""
    others(stage)
    stage.delete = True
    stage.write("mid/changed", "new content")
    stage.there("mid/changed", "old")
    stage.there("gone/removed")
    for name in ("mid/changed", "gone/removed"):
        stage.flag(stage.dest / name, "a")
    yield


@circumstance(places=("ext4", "btrfs"), plain=BOTH)
def immutable_directory(stage: Stage) -> Iterator[None]:
    """An immutable directory in which something is to be made, and one that is to be removed."""
    others(stage)
    stage.delete = True
    stage.write("mid/new", "new")
    stage.write("mid/below/new", "new")
    stage.there("mid/there")
    stage.there("gone/there")
    stage.flag(stage.dest / "mid", "i")
    stage.flag(stage.dest / "gone", "i")
    yield


# Modes.


@circumstance()
def directories_without_permissions(stage: Stage) -> Iterator[None]:
    """Directories of mode 0555, 0111 and 0000 in the archive; a file and a directory come into each later."""
    others(stage)
    for mode in (0o555, 0o111, 0o000):
        stage.write(f"{mode:o}/one", "one")
        (stage.source / f"{mode:o}").chmod(mode)
    yield
    for mode in (0o555, 0o111, 0o000):
        stage.write(f"{mode:o}/two", "two")
        stage.write(f"{mode:o}/one", "changed")
        stage.write(f"{mode:o}/three/four", "four")
    yield


@circumstance()
def files_without_permissions(stage: Stage) -> Iterator[None]:
    """Files of mode 0000 in the archive, small and large, which change later."""
    others(stage)
    stage.write("mid/small", "small", mode=0)
    stage.write("mid/large", b"large" * 60_000, mode=0)
    yield
    stage.write("mid/small", "changed", mode=0)
    stage.write("mid/large", b"large" * 60_000 + b"more", mode=0)
    yield


@circumstance()
def foreign_directory_without_permissions(stage: Stage) -> Iterator[None]:
    """Directories of mode 0000 in DEST, of the user's own: one wanted, one to be removed."""
    others(stage)
    stage.delete = True
    stage.write("mid/new", "new")
    stage.there("mid/old")
    stage.there("gone/below/old")
    for name in ("mid", "gone/below", "gone"):
        (stage.dest / name).chmod(0)
    yield


# What stands in the way.


@circumstance(places=ALL)
def kinds_that_change(stage: Stage) -> Iterator[None]:
    """A file becomes a directory and the reverse; the directory holds what the archive had."""
    others(stage)
    stage.delete = True
    stage.write("file", "file")
    stage.write("directory/inside/file", "file")
    yield
    (stage.source / "file").unlink()
    stage.write("file/inside/file", "file")
    subprocess.run(["rm", "-r", str(stage.source / "directory")], check=True)
    stage.write("directory", "file")
    yield


@circumstance()
def foreign_content_in_the_way(stage: Stage) -> Iterator[None]:
    """A directory with files of the user's own stands where a file is to be; nothing is to be deleted."""
    others(stage)
    stage.write("mid", "file")
    stage.there("mid/below/mine")
    yield


@circumstance()
def specials_in_the_way(stage: Stage) -> Iterator[None]:
    """A pipe, a socket and a link to a directory stand where files and directories are to be."""
    others(stage)
    stage.write("mid/pipe", "file")
    stage.write("mid/socket", "file")
    stage.write("dir/inside", "file")
    stage.write("piped/inside", "file")
    (stage.dest / "mid").mkdir()
    stage.own(stage.dest / "mid")
    os.mkfifo(stage.dest / "mid" / "pipe")
    os.mkfifo(stage.dest / "piped")
    with socket.socket(socket.AF_UNIX) as one:
        at = os.open(stage.dest / "mid", os.O_RDONLY)
        one.bind(f"/proc/self/fd/{at}/socket")
        os.close(at)
    (stage.dest / "dir").symlink_to("/usr")
    yield


@circumstance(plain=ROOT, quick=False)
def mount_point_in_the_way(stage: Stage) -> Iterator[None]:
    """A mount point stands where a file is to be."""
    others(stage)
    stage.delete = True
    stage.write("mid", "file")
    stage.mount(stage.dest / "mid")
    (stage.dest / "mid" / "there").write_text("there")
    yield


@circumstance(plain=ROOT, quick=False)
def mount_point_to_be_removed(stage: Stage) -> Iterator[None]:
    """A mount point that the archive does not have, with --delete."""
    others(stage)
    stage.delete = True
    stage.mount(stage.dest / "gone" / "mounted")
    (stage.dest / "gone" / "mounted" / "there").write_text("there")
    (stage.dest / "gone" / "other").write_text("other")
    yield


@circumstance(plain=ROOT, quick=False)
def mount_point_below(stage: Stage) -> Iterator[None]:
    """Another file system is mounted on a directory of the archive."""
    others(stage)
    stage.write("mid/new", "new")
    stage.write("mid/below/large", b"large" * 60_000)
    stage.mount(stage.dest / "mid")
    yield


@circumstance(places=LOWER, plain=ROOT)
def lower_layer(stage: Stage) -> Iterator[None]:
    """Directories of a lower layer become files, are removed, and get new content."""
    stage.delete = True
    others(stage)
    stage.write("mid", "file")
    stage.write("stays/new", "new")
    lower = stage.work.parent / "lower" / "dest"
    for name in ("mid/old", "gone/old", "stays/old"):
        (lower / name).parent.mkdir(parents=True)
        (lower / name).write_text("old")
    subprocess.run(["mount", "-o", "remount", str(stage.work)], capture_output=True, check=False)
    yield


@circumstance()
def busy_executable(stage: Stage) -> Iterator[None]:
    """A program that is running is replaced."""
    others(stage)
    with open("/bin/sleep", "rb") as file:
        program = file.read()
    stage.write("mid/program", program, mode=0o755)
    yield
    running = subprocess.Popen([str(stage.dest / "mid" / "program"), "60"])
    stage.stack.callback(running.wait)
    stage.stack.callback(running.kill)
    stage.write("mid/program", program + b"newer", mode=0o755)
    yield


# Depth.


def nest(path: bytes, depth: int, name: bytes = b"d") -> None:
    """A chain of directories, deeper than a path may be long, with a file at the end."""
    at = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=at)
        at, above = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at), at
        os.close(above)
    with os.fdopen(os.open(b"deepest", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=at), "wb") as file:
        file.write(b"deepest")
    os.close(at)


@circumstance(quick=False)
def deep_foreign_directories(stage: Stage) -> Iterator[None]:
    """5,000 nested directories in DEST that the archive does not have: kept."""
    others(stage)
    nest(os.fsencode(stage.dest), 5000)
    yield


@circumstance(quick=False)
def deep_directories_to_be_removed(stage: Stage) -> Iterator[None]:
    """5,000 nested directories in DEST that the archive does not have: removed."""
    others(stage)
    stage.delete = True
    nest(os.fsencode(stage.dest), 5000)
    if stage.plain:
        subprocess.run(["chown", "-R", "nobody", str(stage.dest / "d")], check=True)
    yield
