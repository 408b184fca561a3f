"""What was probably meant by a text that is no URL of an archive: one sentence that says so. Pure.

``url`` decides what is refused. The sentences say what can be done today.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

ID_LENGTH: Final = 52
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_LAST: Final = frozenset("aq")
"""52 characters are 260 bits and an id has 256: four bits of the last character are zero."""
_LOOKALIKES: Final = {"0": "o", "1": "l or i", "8": "b", "9": "g"}
_ID_LIKE: Final = 40
"""Letters and digits in a row that are taken for an id with a mistake in it, and not for a name."""
_SHOWN: Final = 120
"""Characters of the refused text that are repeated to its writer."""
_NEAR: Final = 0.6
"""How alike two words are (`difflib.get_close_matches`) of which one is a misspelling of the other."""
_HINTS: Final = {"peer": "peer=HOST:PORT", "web": "web=URL"}
_OTHER_WORDS: Final = {
    **dict.fromkeys(("source", "bootstrap", "node", "host", "server", "tracker", "address", "from"), "peer"),
    **dict.fromkeys(("mirror", "url", "http", "https"), "web"),
}
"""What a hint is called elsewhere, here and in other programs, and what it is called in a URL."""

HOW: Final = "give p2psync://ID as publish prints it, with /PATH for a part of the archive"
_WITH_PEER: Final = "'p2psync://ID?peer=HOST:PORT', in quotes for the shell"
_EMPTY: Final = f"it is empty; {HOW}"
_RSYNC: Final = "p2psync fetch, mirror, ls and mirrors ask rsync servers for their archive, and this does not"
_WEB: Final = (
    "p2psync fetch, mirror, ls and mirrors ask web servers for their archive, and this does not; give the "
    "archive's p2psync://ID, and this URL with --source if the same files are there"
)
_SCHEMES: Final = {
    "http": _WEB,
    "https": _WEB,
    "rsync": f"{_RSYNC}; {HOW}",
    "file": "what is on this machine is copied by cp or rsync; p2psync publish gives a directory a URL",
}
_FOREIGN: Final = {
    "::": _RSYNC,
    ":": "p2psync does not run over ssh as rsync does; run rsync for this one",
}
"""What stands for a place elsewhere before the first slash, the longer signs first (rsync(1), GENERAL)."""


def shown(text: str) -> str:
    """The text in quotes, cut where it is too long for a sentence."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def no_id(text: str) -> str:
    """Why ``text`` is no archive id."""
    return f"{shown(text)} is not an archive id: {_about_id(text)}"


def _about_id(text: str) -> str:
    lower = text.lower()
    strange = next((c for c in lower if c not in _LETTERS), None)
    if not text:
        return _EMPTY
    if "." in text:
        return f"archives are not found by host names; give the id, and the host after it: {_WITH_PEER}"
    if strange is not None:
        like = f", {_LOOKALIKES[strange]} perhaps" if strange in _LOOKALIKES else ""
        return f"{strange!r} is in none (they are made of a-z and 2-7){like}; copy it again"
    if len(text) != ID_LENGTH:
        return f"it has {len(text)} characters, and an id has {ID_LENGTH}; copy all of it"
    if lower[-1] not in _LAST:
        return f"an id ends in a or q, and this one in {text[-1]!r}: it has a typing error; copy it again"
    return f"it has to be in lower case: {lower}"


def no_host(text: str) -> str:
    """Why an id with a port or a user's name is none."""
    return (
        f"{shown(text)} is not an archive id: it has a port or a user's name; where to ask is said after it: "
        f"{_WITH_PEER}"
    )


def no_url(text: str) -> str:
    """Why ``text``, which does not begin with ``p2psync://``, is no URL of an archive."""
    return f"{shown(text)} is not a p2psync:// URL: {_meant(text)}"


def _meant(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if separator and not set(scheme) & {*"/?#"}:  # else it is that of a hint
        return _about_scheme(scheme.lower(), rest)
    scheme, _, rest = text.partition(":")
    if scheme.lower() == "p2psync":
        return f"two slashes are missing; write {_url(rest.lstrip('/'))}"
    first = re.split(r"[/?#]", text, maxsplit=1)[0]
    if len(first) >= _ID_LIKE and first.isalnum():
        return f"p2psync:// is missing before the id; write {_url(text)}"
    for sign, why in _FOREIGN.items():
        if sign in first:
            return f"{why}; {HOW}"
    return f"a path or a host name alone is no archive; {HOW} (SRC comes before DEST)" if text else _EMPTY


def _about_scheme(scheme: str, rest: str) -> str:
    if scheme in _SCHEMES:
        return _SCHEMES[scheme]
    if _nearest(scheme, ["p2psync"]) is not None:
        return f"did you mean {_url(rest)}?"
    return f"nothing else can be fetched; {HOW}"


def _url(rest: str) -> str:
    """The URL that was meant, as it is pasted into a shell: there ? and & have a meaning of their own."""
    import shlex  # noqa: PLC0415 - for the mistaken

    return shlex.quote(f"p2psync://{rest}") if len(rest) <= _SHOWN else f"p2psync://{rest[:_SHOWN]}…"


def no_fragment(text: str) -> str:
    """Why a URL with a ``#`` is refused."""
    return f"{shown(text)} is not a p2psync:// URL: a # in a name is written %23"


def bad_hint(name: str, value: str) -> str | None:
    """What is wrong with a field after the ``?`` of a URL whose name is not that of a hint; None where it may
    be one that newer versions know, and is passed over.
    """
    known = _nearest(name.lower(), _HINTS) or _OTHER_WORDS.get(name.lower())
    if known is not None:
        return f"{shown(name)} is no hint in a URL: did you mean {_HINTS[known]}?"
    if not value:
        return (
            f"{shown(name)} after the ? is no hint; hints are {' and '.join(_HINTS.values())}, "
            "and a ? in a name is written %3F"
        )
    return None


def empty_hint(name: str) -> str:
    """What to say of a hint without a value."""
    return f"the hint {name!r} is empty; write {_HINTS[name]}"


def _nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` is most likely a misspelling of."""
    import difflib  # noqa: PLC0415 - a few milliseconds, for the mistaken

    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=_NEAR)), None)
