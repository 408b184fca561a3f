"""The manual on ``p2psync key ...``."""

from __future__ import annotations

from typing import Final

from p2psync.cli.manual.entry import Entry, example

_ANY: Final = {0: "", 1: "", 11: ""}
_KEYS: Final = (
    "keys/",
    "in the state directory: root keys, signing keys and delegations. Whoever can read them can publish",
)
_KEY_AND: Final = {
    **_ANY,
    1: "wrong command line or configuration; or the key that is needed is not here",
    11: "the file or the state directory cannot be read or written, or a key in it is damaged",
}

ENTRIES: Final[dict[tuple[str, ...], Entry]] = {
    ("key",): Entry(
        examples=(
            example(
                "Keep a copy of the key of an archive where nobody else reads:",
                "p2psync key list",
                "p2psync key export ID /media/vault/archive-root.pem",
            ),
            example(
                "Publish with a signing key for a year, and take the root key off the machine:",
                "p2psync key delegate ID --days 365",
                "p2psync key export ID /media/vault/archive-root.pem --remove",
            ),
        ),
        exits=_KEY_AND,
        files=(_KEYS,),
        see=("p2psync-publish(1)",),
    ),
    ("key", "new"): Entry(
        examples=(
            example("Make the key of a new archive:", "p2psync key new"),
            example(
                "Make a signing key on the machine that publishes; the root key is elsewhere:",
                "p2psync key new --signing ID",
            ),
            example(
                "Make another one, since the first was stolen:", "p2psync key new --signing ID --replace"
            ),
        ),
        exits=_KEY_AND,
        files=(_KEYS,),
        see=("p2psync-key-delegate(1)", "p2psync-publish(1)"),
    ),
    ("key", "list"): Entry(
        examples=(
            example("List the archives whose keys are here:", "p2psync key list"),
            example("List those of a service:", "p2psync key list --state /var/lib/p2psync"),
        ),
        exits=_KEY_AND,
        files=(_KEYS,),
        see=("p2psync-key-show(1)",),
    ),
    ("key", "show"): Entry(
        examples=(
            example("Show which keys of an archive are here, and until when:", "p2psync key show ID"),
            example(
                "Print the time at which the delegation ends, in seconds since 1970:",
                "p2psync key show --json ID | jq .delegation.not_after",
            ),
        ),
        exits=_KEY_AND,
        files=(_KEYS,),
        see=("p2psync-key-list(1)", "p2psync-key-delegate(1)"),
    ),
    ("key", "export"): Entry(
        examples=(
            example(
                "Copy the root key to a disk that goes into a vault:",
                "p2psync key export ID /media/vault/archive-root.pem",
            ),
            example(
                "The same, and remove it from here once it is written:",
                "p2psync key export ID /media/vault/archive-root.pem --remove",
            ),
            example(
                "Encrypt it on the way:", "p2psync key export ID | gpg --symmetric --output archive-root.gpg"
            ),
        ),
        exits={
            **_KEY_AND,
            11: "FILE holds something else or cannot be written, or the state directory cannot be read",
        },
        files=(_KEYS,),
        see=("p2psync-key-import(1)",),
    ),
    ("key", "import"): Entry(
        examples=(
            example("Bring a root key back:", "p2psync key import /media/vault/archive-root.pem"),
            example(
                "Take in the delegation that was made elsewhere for this machine's signing key:",
                "p2psync key import delegation",
            ),
        ),
        exits={
            **_KEY_AND,
            1: "wrong command line or configuration; or FILE holds no key or delegation that can be used "
            "here",
        },
        files=(_KEYS,),
        see=("p2psync-key-export(1)", "p2psync-key-delegate(1)"),
    ),
    ("key", "sign"): Entry(
        examples=(
            example(
                "Sign what was made with `p2psync publish --unsigned`:", "p2psync key sign unsigned >head"
            ),
            example(
                "All in one, from the machine that has the files, the key being on another one:",
                "p2psync publish --unsigned /srv/archive | ssh vault p2psync key sign | \\",
                "    p2psync publish --head - /srv/archive",
            ),
        ),
        exits={
            **_KEY_AND,
            5: "the signing key may not sign a newer snapshot: its delegation has ended, or a newer epoch "
            "began",
        },
        files=(_KEYS,),
        see=("p2psync-publish(1)", "p2psync-key-delegate(1)"),
    ),
    ("key", "delegate"): Entry(
        examples=(
            example(
                "Let a signing key on this machine publish for a year:", "p2psync key delegate ID --days 365"
            ),
            example(
                "Sign for the key of another machine (`p2psync key new --signing ID` prints it there):",
                "p2psync key delegate ID --to SIGNING_KEY >delegation",
            ),
            example(
                "After a theft: begin a new epoch, in which the stolen key counts for nothing:",
                "p2psync key delegate ID --new-epoch",
                "p2psync publish /srv/archive",
            ),
        ),
        exits={**_KEY_AND, 1: "wrong command line or configuration; or the root key is not here"},
        files=(_KEYS,),
        see=("p2psync-key-new(1)", "p2psync-key-import(1)", "p2psync-publish(1)"),
    ),
}
