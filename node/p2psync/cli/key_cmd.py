"""``p2psync key ...``: make, show, move and delegate archive keys.

An archive's id is its root key. The root key can stay offline: it signs a delegation for a signing key, and
the machine that has that signing key and the delegation publishes without the root key.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from p2psync.cli.armor import armor
from p2psync.cli.command import Group
from p2psync.cli.delegations import (
    ROLES,
    check_delegation,
    delegation_in,
    describe,
    epoch_of,
    public_key_of,
)
from p2psync.cli.key_files import read_key, write_key
from p2psync.cli.options import Common, common_options
from p2psync.cli.types import ARCHIVE, url_of
from p2psync.errors import UsageError

if TYPE_CHECKING:
    from p2psync.state import State

DAY = 86400
DELEGATION_DAYS = 365


@click.group("key", cls=Group, no_args_is_help=False)
def command() -> None:
    """Make, show, move and delegate archive keys."""


@command.command("new")
@click.option(
    "--signing",
    type=ARCHIVE,
    metavar="ARCHIVE",
    help="Make a signing key for this archive, and not a new archive.",
)
@click.option("--replace", is_flag=True, help="Make another signing key in place of the one that is here.")
@common_options
def new(common: Common, signing: bytes | None, replace: bool) -> None:
    """Make a new archive, or a signing key for one.

    A signing key may be used once `p2psync key delegate`, on the machine with the root key, has signed for
    it. If there is one here already, that is shown; with --replace it is lost.
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
        archives = state.keys.archives()
        for archive in archives:
            _show(common, state, archive)
        if not archives:
            common.out.say("no key of an archive is here")


@command.command("show")
@click.argument("archive", type=ARCHIVE)
@common_options
def show(common: Common, archive: bytes) -> None:
    """Show which keys of an archive are here and what is delegated.

    ARCHIVE is p2psync://ID, or the ID alone.
    """
    with common.open_state() as state:
        _show(common, state, archive)


@command.command("export")
@click.argument("archive", type=ARCHIVE)
@click.argument("file", default="-")
@click.option(
    "--delegation", "what", flag_value="delegation", help="Write the delegation, and not the root key."
)
@click.option("--remove", is_flag=True, help="Remove the root key from this machine once FILE is on disk.")
@common_options
def export(common: Common, archive: bytes, file: str, what: str | None, remove: bool) -> None:
    """Write the root key, or a delegation, to a file.

    ARCHIVE is p2psync://ID, or the ID alone. Without FILE, or with -, standard output is written to. FILE
    must not exist yet, unless it holds the same already. The key is PEM and not encrypted.

    Whoever has this file owns the archive. Without any copy of it the archive can be continued only for as
    long as its delegations last.
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
        if state.keys.is_own_file(file):
            raise UsageError(f"{file!r} is where the key is kept here: name another file for the copy")
        write_key(common.out, file, data)
        if remove:
            state.keys.remove_root(archive)
            if state.keys.signing(archive) is None:
                common.out.warn(
                    f"no key that may sign for {url_of(archive)} is left here: before it is published from "
                    "here again, import the root key, or a delegation for a signing key"
                )
        _show(common, state, archive, exported=True)


@command.command("import")
@click.argument("file", default="-")
@click.option(
    "--signing",
    type=ARCHIVE,
    metavar="ARCHIVE",
    help="FILE is a signing key of this archive, not a root key.",
)
@click.option("--replace", is_flag=True, help="Take the signing key in place of another one that is here.")
@common_options
def import_(common: Common, file: str, signing: bytes | None, replace: bool) -> None:
    """Take in a root key, a signing key or a delegation.

    It is read from FILE; without it, or with -, from standard input. What is here already is no error. A
    signing key that is here is lost where another one is to --replace it.
    """
    if replace and signing is None:
        raise UsageError("--replace goes with --signing: a root key is never replaced")
    data = read_key(common.out, file)
    what = "the key on standard input" if file == "-" else f"the key in {file!r}"
    with common.open_state() as state:
        delegation = delegation_in(data)
        if delegation is not None:
            check_delegation(state, delegation)
            state.keys.add_delegation(delegation)
            archive = delegation.root
        elif signing is not None:
            archive = signing
            state.keys.import_signing(archive, data, what, replace=replace)
        else:
            archive = state.keys.import_root(data, what)
        _show(common, state, archive)


@command.command("delegate")
@click.argument("archive", type=ARCHIVE)
@click.option(
    "--to",
    "to",
    metavar="KEY",
    help="Sign for this key of another machine: 64 hexadecimal digits, as `p2psync key show` prints them "
    "there.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 36500),
    default=DELEGATION_DAYS,
    show_default=True,
    metavar="N",
    help="For how many days.",
)
@click.option(
    "--role",
    "roles",
    type=click.Choice(list(ROLES)),
    multiple=True,
    default=["heads", "mirrors"],
    show_default=True,
    help="What the key may sign; may be repeated.",
)
@click.option(
    "--new-epoch",
    is_flag=True,
    help="Begin a new epoch, in which whatever earlier signing keys sign is too old.",
)
@click.option(
    "--epoch",
    type=click.IntRange(0, 2**32),
    default=0,
    metavar="N",
    help="The epoch in use, if this machine does not know it; `p2psync key show` tells it on the other one.",
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
    """Let a signing key act for the archive.

    ARCHIVE is p2psync://ID, or the ID alone. Its root key must be here.

    Without --to, a signing key is made here (with --new-epoch a new one in any case) and used from now on, so
    that the root key can be exported and taken offline. With --to, the delegation is printed, for `p2psync
    key import` on the other machine.
    """
    from p2psync_dht import Delegation
    from p2psync_dht.records import MAX_SEQUENCE

    with common.open_state() as state:
        root = state.keys.root(archive)
        if root is None:
            raise UsageError("the root key of this archive is not here; run this on the machine that has it")
        used = max(epoch_of(state, archive), epoch)
        if used + new_epoch > MAX_SEQUENCE:
            raise UsageError(f"there is no epoch after {used}, which whoever has the root key too has signed")
        if to is not None:
            key = public_key_of(to)
            if key == archive:
                raise UsageError(
                    "that is the root key itself, which needs no delegation; 'p2psync key new --signing' "
                    "makes another key on the other machine"
                )
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


@command.command("sign")
@click.argument("file", default="-")
@common_options
def sign(common: Common, file: str) -> None:
    """Sign the head of a snapshot that was made on another machine.

    FILE is what `p2psync publish --unsigned` printed there; without it, or with -, it is read from standard
    input. The head is printed, for `p2psync publish --head` there. The root key, or a signing key with its
    delegation, must be here; files and network are not needed.

    Whoever signs vouches for what is in the snapshot, which cannot be seen from here.
    """
    from p2psync.cli.armor import HEAD, UNSIGNED, unarmor
    from p2psync.format.unsigned import Unsigned
    from p2psync.publish.unsigned import sign as sign_it

    raw = unarmor(read_key(common.out, file), UNSIGNED)
    if raw is None:
        raise UsageError("there is nothing to sign: give what 'p2psync publish --unsigned' printed")
    with common.open_state() as state, common.out.observing() as tell:
        head = sign_it(state, Unsigned.decode(raw), tell=tell)
    text = armor(head.raw, HEAD).decode()
    common.out.event(
        "head",
        archive=url_of(head.archive),
        epoch=head.epoch,
        seq=head.seq,
        snapshot=head.snapshot.digest.hex(),
        text=text,
    )
    common.out.result(text.rstrip("\n"))


def _show(common: Common, state: State, archive: bytes, *, exported: bool = False) -> None:
    """``exported``: the last key may have been taken away just now."""
    info = state.keys.info(archive)
    url = url_of(archive)
    if not (info.has_root or info.signing or exported):
        raise UsageError(f"no key of {url} is here")
    signing = None if info.signing is None else info.signing.hex()
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
    common.out.result(f"{url}  {'; '.join(words) or 'no key'}")
