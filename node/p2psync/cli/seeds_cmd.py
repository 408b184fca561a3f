"""``p2psync seeds ...``: make, sign and check seed lists; for those who run bootstrap nodes.

The format is docs/spec/seeds.md. Commands that join a network take lists by ``--seeds``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2psync.cli.command import Group
from p2psync.cli.options import Common, common_options
from p2psync.cli.types import DNS_SERVER, SEEDS, SEEDS_KEY

if TYPE_CHECKING:
    from p2psync.network.seeds.seedlist import SeedList

DAY = 86400
DAYS = 30
"""Long enough that a list outlives its operator's holidays, short enough that dead seeds do not stay for a
year."""


@click.group("seeds", cls=Group, no_args_is_help=False)
def command() -> None:
    """Make, sign and check lists of nodes to join a network by."""


@command.command("keygen")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@common_options
def keygen(common: Common, file: Path) -> None:
    """Make a key that signs seed lists, and print its public half.

    FILE is made with mode 0600 and never written over. Keep it off the bootstrap nodes: they do not need it.
    """
    from p2psync.errors import FileError
    from p2psync.network.seeds.seedlist import key_text
    from p2psync.state.files import write_private
    from p2psync.state.keys import to_pem
    from p2psync_dht import Identity

    identity = Identity.generate()
    if not write_private(file, to_pem(identity), replace=False):
        raise FileError(f"{file} exists already, and a key that is overwritten is lost: name another file")
    common.out.event("seeds-key", key=key_text(identity.public_key), file=str(file))
    common.out.result(key_text(identity.public_key))


@command.command("sign")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    metavar="KEYFILE",
    help="Sign with this key, which `p2psync seeds keygen` made.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 400),
    default=DAYS,
    show_default=True,
    metavar="N",
    help="For how many days the list is valid.",
)
@click.option(
    "--successor",
    type=SEEDS_KEY,
    metavar="KEY",
    help="Announce the key that will sign later lists; readers trust it from then on.",
)
@click.option(
    "--txt", is_flag=True, help="Print the strings of a DNS TXT record, for a zone file, and not the list."
)
@common_options
def sign_(common: Common, file: Path, key_file: Path, days: int, successor: bytes | None, txt: bool) -> None:
    """Sign the seeds that FILE names, and print the list.

    FILE is TOML with one key, seeds = ["HOST:PORT", ...]; a list that was signed before will do, since its
    times and its signature are made anew. Publish what is printed as
    https://DOMAIN/.well-known/p2psync-seeds, in DNS, or as a file.
    """
    from p2psync.errors import FileError
    from p2psync.network.seeds.ask import read_file
    from p2psync.network.seeds.seedlist import decode, sign, text_for_dns
    from p2psync.state.files import read_private
    from p2psync.state.keys import from_pem

    now = int(time.time())
    found = decode(read_file(str(file)), now=now, unsigned=True)
    pem = read_private(key_file)
    if pem is None:
        raise FileError(f"{key_file} was removed meanwhile")
    identity = from_pem(pem, f"The key {key_file}")
    raw = sign(identity, found.seeds, issued=now, expires=now + days * DAY, successor=successor)
    text = " ".join(f'"{_escaped(part)}"' for part in text_for_dns(raw)) + "\n" if txt else raw.decode()
    _show(common, decode(raw, now=now), str(file), list=text)
    if not common.out.json:
        sys.stdout.write(text)


@command.command("verify")
@click.argument("source", type=SEEDS, metavar="FILE|URL|DOMAIN")
@click.option(
    "--seeds-key",
    type=SEEDS_KEY,
    multiple=True,
    metavar="KEY",
    help="Believe only a list that this key signed; may be repeated.",
)
@click.option(
    "--dns",
    type=DNS_SERVER,
    envvar="P2PSYNC_DNS",
    metavar="IP[:PORT]",
    help="Ask this DNS server. Default: the system's.",
)
@common_options
def verify(common: Common, source: str, seeds_key: tuple[bytes, ...], dns: str | None) -> None:
    """Check a seed list and show what it says.

    It is got as a client would get it, and nothing is remembered of it, neither the list nor its key. The
    exit code is 5 if it must not be believed.
    """
    import asyncio

    from p2psync.errors import TrustError
    from p2psync.network.seeds.ask import lists_of
    from p2psync.network.seeds.query import seed_query
    from p2psync.network.seeds.seedlist import decode

    now = time.time()
    query = seed_query(source, seeds_key, dns)
    for where, raw in asyncio.run(lists_of(query)):
        found = decode(raw, now=now, keys=seeds_key or None)
        if found.is_expired(now):
            raise TrustError(f"the seed list from {where} has expired: sign it again")
        _show(common, found, where)
        if not common.out.json:
            common.out.result(_described(found, where))


def _show(common: Common, found: SeedList, where: str, **more: str) -> None:
    from p2psync.network.seeds.seedlist import key_text

    common.out.event(
        "seeds",
        source=where,
        key=None if found.key is None else key_text(found.key),
        successor=None if found.successor is None else key_text(found.successor),
        issued=found.issued,
        expires=found.expires,
        seeds=[*found.seeds],
        **more,
    )


def _described(found: SeedList, where: str) -> str:
    from p2psync.network.seeds.seedlist import key_text
    from p2psync.text import clean_text

    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(found.expires))
    lines = [f"{where}: valid until {until}", f"  signed by  {key_text(found.key or b'')}"]
    if found.successor is not None:
        lines.append(f"  successor  {key_text(found.successor)}")
    return "\n".join([clean_text(line) for line in lines] + [f"  {clean_text(text)}" for text in found.seeds])


def _escaped(text: str) -> str:
    """As the quoted character string of a zone file (RFC 1035, section 5.1)."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
