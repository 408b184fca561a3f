"""What an rsync command line asks for, as a fetch; or why it is the real rsync's. Pure but for what is in
DEST.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from p2psync.errors import FileError, UsageError
from p2psync.rsync.command_line import CommandLine, NotRead, read
from p2psync.rsync.options import OPTIONS, Handling
from p2psync.rsync.units import parse_rate, parse_seconds, parse_size
from p2psync.rsync.wishes import Wishes, wishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2psync.fetch.keywords import TransferOptions
    from p2psync.negotiate.origin import Origin
    from p2psync.rules.filter import Filter

NEEDED: Final = ("recursive", "links", "perms", "times")
"""What a fetch always does."""
OF_ROOT: Final = ("owner", "group")
"""What only root can do, and a fetch does not."""
DELETING: Final = (
    "delete",
    "delete-before",
    "delete-during",
    "delete-after",
    "delete-delay",
    "delete-excluded",
)
DELAYED: Final = ".~tmp~"
"""Where rsync keeps files until the end (--delay-updates)."""
RULES: Final = ("filter", "include", "exclude", "include-from", "exclude-from")
SWITCHES: Final = (
    "delay-updates",
    "dry-run",
    "existing",
    "force",
    "hard-links",
    "ignore-errors",
    "ignore-existing",
    "omit-dir-times",
    "prune-empty-dirs",
    "safe-links",
    "size-only",
    "update",
)
SIZES: Final = ("max-size", "min-size")
"""Options that a fetch has by the same names."""
VARIABLES: Final = (
    "RSYNC_CONNECT_PROG",
    "RSYNC_ICONV",
    "RSYNC_PASSWORD",
    "RSYNC_PORT",
    "RSYNC_PROXY",
    "POSIX_ME_HARDER",
)
"""Environment variables with which rsync does something else, or goes another way. The others are about
what P2P does not have (RSYNC_RSH, RSYNC_SHELL, RSYNC_CHECKSUM_LIST, RSYNC_COMPRESS_LIST, RSYNC_MAX_ALLOC,
RSYNC_OLD_ARGS, RSYNC_PROTECT_ARGS, RSYNC_PARTIAL_DIR).
"""
ALIASES: Final = ("/etc/popt", "~/.popt")
ALIASES_FOLDER: Final = "/etc/popt.d"
"""Where popt(3) finds what users have named options. Whoever has named any for rsync has rsync read them."""
ALIASES_MAX: Final = 1 << 16
"""Bytes of such a file."""
_HANDED: Final = frozenset(option.name for option in OPTIONS if option.handling is Handling.HANDED)


class Pull(NamedTuple):
    """A fetch from an rsync server."""

    origin: Origin
    dest: str
    options: TransferOptions
    wishes: Wishes


def pull_of(words: Sequence[str], *, is_root: bool, environ: Mapping[str, str]) -> Pull:
    """What rsync with these words would fetch from a server's module. Raises NotRead: it is the real rsync's,
    and why.
    """
    for name in VARIABLES:
        if environ.get(name):
            raise NotRead(f"${name} is set")
    line = read(words)
    _check_options(line, is_root=is_root)
    origin, dest = _places(line)
    told = wishes(line)
    if told.log_file is not None and _by_others(told.log_file):
        raise NotRead(f"{told.log_file!r} leads through a link of others")
    return Pull(origin, dest, _transfer(line), told)


def refuse_aliases() -> None:
    """Raises NotRead: popt(3) has options of the user's own for rsync."""
    folder = Path(ALIASES_FOLDER)
    files = [Path(os.path.expanduser(name)) for name in ALIASES]
    files += sorted(folder.iterdir()) if folder.is_dir() else []
    for path in files:
        try:
            with path.open("rb") as file:
                text = file.read(ALIASES_MAX)
        except OSError:
            continue  # As popt has it.
        if any(line.split()[:1] == [b"rsync"] for line in text.splitlines()):
            raise NotRead(f"{path} has options for rsync")


def _check_options(line: CommandLine, *, is_root: bool) -> None:
    handed = sorted(name for name in line.on if name in _HANDED)
    if handed:
        raise NotRead(f"{_dashed(handed[0])} is left to it")
    for name in NEEDED:
        if name not in line.on:
            raise NotRead(f"--{name} is not asked for")
    for name in OF_ROOT if is_root else ():
        if name in line.on:
            raise NotRead(f"root asks for --{name}, and archives have no owners")


def _dashed(name: str) -> str:
    return f"--{name}" if len(name) > 1 else f"-{name}"


def _places(line: CommandLine) -> tuple[Origin, str]:
    from p2psync.negotiate.origin import is_origin, parse_origin

    if len(line.places) != 2:
        raise NotRead("it is not one SRC and one DEST")
    src, dest = line.places
    if not dest or ":" in dest.partition("/")[0]:
        raise NotRead(f"{dest!r} is on another machine")
    if not (src.lower().startswith("rsync://") or "::" in src.partition("/")[0]) or not is_origin(src):
        raise NotRead(f"{src!r} is no module of an rsync server")
    try:
        origin = parse_origin(src)
    except UsageError as error:
        raise NotRead(str(error)) from error
    if not _fits(origin.host, line.on):
        raise NotRead(f"{origin.host} is an address of the other family")
    if origin.user:
        raise NotRead(f"{src!r} names a user")
    if origin.is_pattern:
        raise NotRead(f"{src!r} is a pattern")
    if "port" in line.values:
        if "://" in src:
            raise NotRead("--port beside a URL")
        origin = origin._replace(port=_number(line, "port"))
    if "files-from" in line.values and origin.name:
        raise NotRead("names of a list begin in a directory, and SRC has no slash at its end")
    if "dry-run" in line.on and origin.name and not os.path.isdir(dest):
        raise NotRead("DEST would have to be made to say what would be done")
    _check_dest(dest, mkpath="mkpath" in line.on)
    return origin, dest


def _fits(host: str, on: set[str]) -> bool:
    """Whether a host's name, or address, may be reached with -4 or -6, if one of these is asked for."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return True
    return f"ipv{10 - version}" not in on


def _check_dest(dest: str, *, mkpath: bool) -> None:
    if os.path.lexists(dest):
        if not os.path.isdir(dest):
            raise NotRead(f"{dest!r} is no directory")
    elif not mkpath and not os.path.isdir(os.path.dirname(dest.rstrip("/")) or os.curdir):
        raise NotRead(f"the directory that {dest!r} would be in is not there")


def _transfer(line: CommandLine) -> TransferOptions:
    from p2psync.fetch.options import Delete

    made: TransferOptions = {
        "special_bits": True,
        "checksum": "checksum" in line.on,
        "delete": Delete.ALL if line.on.intersection(DELETING) else Delete.NONE,
    }
    if "max-delete" in line.values:
        made["max_delete"] = max(_number(line, "max-delete"), 0)
    if "timeout" in line.values:
        made["timeout"] = float(_number(line, "timeout"))
    if "contimeout" in line.values:
        made["contimeout"] = float(_number(line, "contimeout")) or None
    if "bwlimit" in line.values:
        try:
            made["bwlimit"] = parse_rate(line.values["bwlimit"]) or None
        except ValueError as error:
            raise NotRead(f"--bwlimit: {error}") from error
    rules = _rules(line)
    if rules.rules:
        made["rules"] = rules
    more: dict[str, Any] = {name.replace("-", "_"): True for name in SWITCHES if name in line.on}
    for name in (name for name in SIZES if name in line.values):
        try:
            more[name.replace("-", "_")] = parse_size(line.values[name])
        except ValueError as error:
            raise NotRead(f"--{name}: {error}") from error
    if "modify-window" in line.values:
        more["modify_window"] = _number(line, "modify-window")
    if "files-from" in line.values:
        more |= _listed(line)
    return cast("TransferOptions", made | more)


def _listed(line: CommandLine) -> dict[str, Any]:
    """What a list of names asks for: directories without what is in them, unless -r says so itself."""
    from p2psync.cli.rules import read_names_file

    name = line.values["files-from"]
    if ":" in name.partition("/")[0]:
        raise NotRead(f"its list {name!r} is on the server")
    if line.on.intersection(DELETING):
        raise NotRead("it deletes beside a list of names")
    if line.off.intersection(("relative", "dirs")):
        raise NotRead("its list has names without their directories")
    _check_file(os.fsencode(name))
    names = read_names_file(name, nul="from0" in line.on)
    return {"files_from": names, "recursive": ("recursive", "") in line.said}


def _rules(line: CommandLine) -> Filter:
    from p2psync.cli.rules import build_filter

    given = [(name.replace("-", "_"), value) for name, value in line.said if name in RULES]
    # rsync has a rule for the folder in which it keeps files that are on their way (--partial-dir).
    kept = line.values.get("partial-dir", DELAYED if "delay-updates" in line.on else "")
    if kept and not kept.startswith("/"):
        given.append(("filter", f"-p {kept.rstrip('/')}/"))
    try:
        return build_filter(
            given,
            delete_excluded="delete-excluded" in line.on,
            from0="from0" in line.on,
            read=_read,
        )
    except (UsageError, FileError) as error:
        raise NotRead(str(error)) from error


def _read(name: bytes) -> bytes:
    """The text of a file of rules."""
    from p2psync.cli.rules import read_rule_file

    _check_file(name)
    return read_rule_file(name)


def _check_file(name: bytes) -> None:
    """What can be read only once is left to rsync, which may have to. Raises NotRead."""
    try:
        is_regular = stat.S_ISREG(os.stat(name).st_mode)
    except OSError:
        is_regular = False
    if not is_regular or _by_others(os.fsdecode(name)):
        raise NotRead(
            f"its rules are in {os.fsdecode(name)!r}, which is no regular file, or behind a link of others"
        )


def _by_others(path: str) -> bool:
    """Whether a link on the way there belongs to neither root nor this user: since 3.5.0 rsync follows none
    of these where a command line names a file.
    """
    way = os.path.abspath(path)
    while way != os.path.dirname(way):
        try:
            found = os.lstat(way)
        except OSError:
            found = None
        if found is not None and stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
            return True
        way = os.path.dirname(way)
    return False


def _number(line: CommandLine, name: str) -> int:
    text = line.values[name]
    if name == "max-delete" and text == "-1":
        return -1
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise NotRead(f"--{name}: {text!r} is no whole number") from error
