"""``p2psync key ...``: make, show, move and delegate archive keys.

An archive's id is its root key. The root key can stay offline: it signs a delegation for a signing key, and
the machine that has that signing key and the delegation publishes without the root key.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from p2psync.cli.armor import armor, unarmor
from p2psync.cli.command import Group
from p2psync.cli.options import Common, common_options
from p2psync.cli.types import ARCHIVE, url_of
from p2psync.errors import FileError, UsageError

if TYPE_CHECKING:
    from p2psync.state import State
    from p2psync_dht import Delegation

DAY = 86400
DELEGATION_DAYS = 365
ROLES = {"heads": 1, "mirrors": 2}
KEY_FILE_MAX = 64 << 10  # A PEM key has some 120 bytes; a larger file is something else.


@click.group("key", cls=Group, no_args_is_help=False)
def command() -> None:
    """Make, show, move and delegate archive keys."""


@command.command("new")
@click.option(
    "--signing",
    type=ARCHIVE,
    metavar="ARCHIVE",
    help="Make a signing key for this archive instead of a new archive.",
)
@click.option("--replace", is_flag=True, help="Make another signing key in place of the one that is here.")
@common_options
def new(common: Common, signing: bytes | None, replace: bool) -> None:
    """Make a new archive, or a signing key for one.

    The signing key may be used once `p2psync key delegate` on the machine with the root key has signed for
    it. If one is here already, that is shown, unless --replace is given: then it is lost.
    """
    if replace and signing is None:
        raise UsageError("--replace goes with --signing: a root key is never replaced")
    with common.open_state() as state:
        if signing is None:
            archive = state.keys.create_root()
        else:
            archive = signing
            state.keys.create_signing(archive, replace=replace)
        _show(common, state, archive)


@command.command("list")
@common_options
def list_(common: Common) -> None:
    """List the archives of which a key is here."""
    with common.open_state() as state:
        for info in state.keys.list():
            _show(common, state, info.archive)


@command.command("show")
@click.argument("archive", type=ARCHIVE)
@common_options
def show(common: Common, archive: bytes) -> None:
    """Show which keys of an archive are here and what is delegated."""
    with common.open_state() as state:
        _show(common, state, archive)


@command.command("export")
@click.argument("archive", type=ARCHIVE)
@click.argument("file", default="-")
@click.option("--delegation", "what", flag_value="delegation", help="The delegation instead of the root key.")
@click.option("--remove", is_flag=True, help="Remove the root key from here once FILE is on disk.")
@common_options
def export(common: Common, archive: bytes, file: str, what: str | None, remove: bool) -> None:
    """Write the root key, or a delegation, to FILE or standard output.

    The key is PEM, not encrypted. FILE must not exist yet.

    Whoever has this file owns the archive; without any copy of it the archive can only be continued as long
    as its delegations last.
    """
    if remove and (file == "-" or what):
        raise UsageError(
            "--remove goes with the root key and a FILE: the key must be safe before it is removed"
        )
    with common.open_state() as state:
        if what == "delegation":
            signing = state.keys.signing(archive)
            if signing is None or signing[1] is None:
                raise UsageError(
                    "no delegation for this archive is here; make one with 'p2psync key delegate'"
                )
            data = armor(signing[1].raw)
        else:
            data = state.keys.export_root(archive)
        if file == "-":
            common.out.event("exported", archive=url_of(archive), text=data.decode())
            common.out.result(data.decode().rstrip("\n"))
            return
        _write_new(file, data)
        if remove:
            state.keys.remove_root(archive)
        _show(common, state, archive)


@command.command("import")
@click.argument("file", default="-")
@click.option(
    "--signing",
    type=ARCHIVE,
    metavar="ARCHIVE",
    help="FILE is a signing key of this archive, not a root key.",
)
@common_options
def import_(common: Common, file: str, signing: bytes | None) -> None:
    """Take in a root key, a signing key or a delegation.

    It is read from FILE, or from standard input."""
    data = _read(file)
    with common.open_state() as state:
        delegation = _delegation_in(data)
        if delegation is not None:
            state.keys.add_delegation(delegation)
            archive = delegation.root
        elif signing is not None:
            archive = signing
            state.keys.import_signing(archive, data)
        else:
            archive = state.keys.import_root(data)
        _show(common, state, archive)


@command.command("delegate")
@click.argument("archive", type=ARCHIVE)
@click.option("--to", "to", metavar="KEY", help="The signing key (hex, from 'key show') of another machine.")
@click.option("--days", type=click.IntRange(1, 36500), default=DELEGATION_DAYS, show_default=True)
@click.option(
    "--role",
    "roles",
    type=click.Choice(list(ROLES)),
    multiple=True,
    default=["heads", "mirrors"],
    show_default=True,
    help="What the key may sign.",
)
@click.option("--new-epoch", is_flag=True, help="Begin a new epoch: heads of all earlier signing keys lose.")
@click.option(
    "--epoch",
    type=click.IntRange(0, 2**32),
    default=0,
    metavar="N",
    help="The epoch in use, if this machine does not know it ('key show' of the other one does).",
)
@common_options
def delegate(
    common: Common,
    archive: bytes,
    to: str | None,
    days: int,
    roles: tuple[str, ...],
    new_epoch: bool,
    epoch: int,
) -> None:
    """Let a signing key act for the archive. The root key must be here.

    Without --to, a signing key is made here (with --new-epoch a new one in any case) and used from now on, so
    that the root key can be exported and taken offline. With --to, the delegation is printed for 'p2psync key
    import' on the other machine.
    """
    from p2psync_dht import Delegation

    with common.open_state() as state:
        root = state.keys.root(archive)
        if root is None:
            raise UsageError("the root key of this archive is not here; run this on the machine that has it")
        used = max(_epoch(state, archive), epoch)
        if to is not None:
            key = _public_key(to)
        else:
            key = state.keys.create_signing(archive, replace=new_epoch).public_key
        now = int(time.time())
        delegation = Delegation.sign(
            root,
            key,
            epoch=used + new_epoch,
            roles=sum(ROLES[role] for role in set(roles)),
            not_before=now - DAY,  # The other machine's clock may be behind.
            not_after=now + days * DAY,
        )
        if to is None:
            state.keys.add_delegation(delegation)
            _show(common, state, archive)
        else:
            text = armor(delegation.raw).decode()
            common.out.event("delegation", **describe(delegation), text=text)
            common.out.result(text.rstrip("\n"))


def describe(delegation: Delegation) -> dict[str, Any]:
    """A delegation as JSON fields. Times are seconds since 1970."""
    return {
        "key": delegation.key.hex(),
        "epoch": delegation.epoch,
        "roles": [name for name, bit in ROLES.items() if delegation.roles & bit],
        "not_before": delegation.not_before,
        "not_after": delegation.not_after,
    }


def _show(common: Common, state: State, archive: bytes) -> None:
    info = next((info for info in state.keys.list() if info.archive == archive), None)
    url = url_of(archive)
    if info is None:
        raise UsageError(f"no key of {url} is here")
    signing = state.keys.create_signing(archive).public_key.hex() if info.has_signing else None
    delegation = describe(info.delegation) if info.delegation is not None else None
    common.out.event("key", archive=url, root=info.has_root, signing=signing, delegation=delegation)
    words = ["root key"] if info.has_root else []
    if delegation is not None:
        until = time.strftime("%Y-%m-%d", time.localtime(delegation["not_after"]))
        words.append(
            f"signing key {signing}, delegated in epoch {delegation['epoch']} until {until} "
            f"for {' and '.join(delegation['roles'])}"
        )
    elif signing is not None:
        words.append(f"signing key {signing}, not delegated")
    common.out.result(f"{url}  {'; '.join(words)}")


def _epoch(state: State, archive: bytes) -> int:
    """The epoch in use: of the newest head, or of a delegation that has signed nothing yet."""
    head = state.heads.newest(archive)
    signing = state.keys.signing(archive)
    delegated = signing[1].epoch if signing is not None and signing[1] is not None else 0
    return max(head.epoch if head is not None else 0, delegated)


def _public_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise UsageError(f"{text!r} is not a key: 64 hexadecimal digits, as 'p2psync key show' prints them")
    return key


def _delegation_in(data: bytes) -> Delegation | None:
    from p2psync_dht import Delegation, RecordError

    raw = unarmor(data)
    if raw is None:
        return None
    try:
        return Delegation.decode(raw)
    except RecordError as error:
        raise UsageError(f"the delegation is damaged ({error}); copy the whole text again") from None


def _read(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(KEY_FILE_MAX + 1)
        else:
            with open(file, "rb") as stream:
                data = stream.read(KEY_FILE_MAX + 1)
    except OSError as error:
        raise FileError(f"cannot read {file!r}: {error.strerror}") from None
    if len(data) > KEY_FILE_MAX:
        raise UsageError(f"{file!r} is larger than {KEY_FILE_MAX} bytes: that is no key")
    return data


def _write_new(file: str, data: bytes) -> None:
    """Write a file that only its owner can read and that did not exist; on disk when this returns."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
    except FileExistsError:
        raise FileError(f"{file!r} exists already; a key is not written over anything") from None
    except OSError as error:
        raise FileError(f"cannot write {file!r}: {error.strerror}") from None
