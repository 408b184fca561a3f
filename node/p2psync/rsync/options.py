"""Every option of rsync, and what `p2psync rsync` does with it where an archive is fetched by P2P. Data.

docs/rsync.md is this table for people. How words become options is ``command_line``'s business, what they ask
for is the command's. rsync(1), OPTION SUMMARY; as of rsync 3.5.0.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Handling(StrEnum):
    """What becomes of an option."""

    SAME = "same"
    """What rsync does."""
    DIFFERENT = "different"
    """Nearly what rsync does; ``why`` says where not."""
    NOTHING = "nothing to do"
    """Accepted: it is about something that P2P does not have."""
    HANDED = "handed over"
    """A command line with it is the real rsync's."""


class Option(NamedTuple):
    """One option, by its longest name; ``letter`` is its short form, ``off`` what switches it off again."""

    name: str
    letter: str
    value: str
    """What stands behind it, as the manual calls it; "" where nothing does."""
    handling: Handling
    why: str
    others: tuple[str, ...]
    off: tuple[str, ...]

    @property
    def shown(self) -> str:
        """Its names as rsync(1) has them."""
        dashes = "--" if len(self.name) > 1 else "-"
        long = f"{dashes}{self.name}{'=' + self.value if self.value else ''}"
        return f"{long}, -{self.letter}" if self.letter else long


def _rows(handling: Handling, *rows: tuple[str, str]) -> tuple[Option, ...]:
    """``NAME[=VALUE][,LETTER] [alias ...] [! off ...]`` and the reason."""
    made = []
    for text, why in rows:
        names, _, off = text.partition("!")
        first, *others = names.split()
        name, _, letter = first.partition(",")
        name, _, value = name.partition("=")
        made.append(Option(name, letter, value, handling, why, tuple(others), tuple(off.split())))
    return tuple(made)


_SAME: Final = _rows(
    Handling.SAME,
    ("recursive,r ! no-recursive no-r", "without it, rsync is run"),
    ("links,l ! no-links no-l", "without it, rsync is run"),
    ("perms,p ! no-perms no-p", "setuid, setgid and sticky bits included; without it, rsync is run"),
    ("times,t ! no-times no-t", "without it, rsync is run"),
    ("archive,a", "-rlptgoD; see each of these"),
    ("quiet,q", ""),
    ("verbose,v ! no-verbose no-v", "twice, rsync is run"),
    ("info=FLAGS", "copy, del, flist, misc, name, progress, stats and symsafe; with others rsync is run"),
    ("8-bit-output,8 ! no-8-bit-output no-8", ""),
    ("human-readable,h ! no-human-readable no-h", ""),
    ("itemize-changes,i ! no-itemize-changes no-i", "twice, rsync is run"),
    ("out-format=FORMAT log-format", "%B %L %M %f %i %l %n %o %p %t; with others rsync is run"),
    ("log-file-format=FMT", "as --out-format"),
    ("log-file=FILE", ""),
    ("checksum,c ! no-checksum no-c", "every file in DEST is read"),
    ("max-delete=NUM", "-1 is 0"),
    ("delete-after", ""),
    ("delete-delay", ""),
    ("delete-excluded", ""),
    ("exclude=PATTERN", ""),
    ("exclude-from=FILE", "of a pipe or the standard input, rsync reads it"),
    ("include=PATTERN", ""),
    ("include-from=FILE", "as --exclude-from"),
    ("filter=RULE,f", "with merge files as --exclude-from; with rules of each directory (:), rsync is run"),
    ("from0,0 ! no-from0", ""),
    ("update,u", ""),
    ("safe-links", "with -v, all that are left out are named at the beginning"),
    ("omit-dir-times,O ! no-omit-dir-times no-O", ""),
    ("existing ignore-non-existing", ""),
    ("ignore-existing", ""),
    ("force ! no-force", ""),
    ("max-size=SIZE", ""),
    ("min-size=SIZE", ""),
    ("size-only", ""),
    ("modify-window=NUM,@", "of -1, rsync is run"),
    ("ignore-errors ! no-ignore-errors", ""),
    ("dry-run,n", ""),
    ("files-from=FILE", "of a regular file here; with --delete, or a list on the server, rsync is run"),
    ("prune-empty-dirs,m ! no-prune-empty-dirs no-m", ""),
    ("bwlimit=RATE ! no-bwlimit", "over all sources together"),
    ("timeout=SECONDS ! no-timeout", "of silence from all sources"),
    ("contimeout=SECONDS ! no-contimeout", "for each source"),
    ("port=PORT", "with HOST::MODULE; beside a URL, rsync is run"),
    ("mkpath ! no-mkpath", ""),
)
_DIFFERENT: Final = _rows(
    Handling.DIFFERENT,
    ("delete", "deletes when everything else is in place, as --delete-after; so do the next two"),
    ("delete-during del", "as --delete-after"),
    ("delete-before", "as --delete-after"),
    (
        "group,g ! no-group no-g",
        "archives have no groups: as a plain user, new files have that user's; as root, rsync is run",
    ),
    (
        "owner,o ! no-owner no-o",
        "archives have no owners: a plain user cannot set any; as root, rsync is run",
    ),
    ("D ! no-D", "--devices and --specials"),
    ("devices ! no-devices", "archives have no devices; a plain user cannot make any"),
    (
        "specials ! no-specials",
        "archives have no sockets and pipes; publish warns of those that it leaves out",
    ),
    ("stats", "bytes are those of P2P (below)"),
    ("progress ! no-progress", "a file has its line when it is in place; several come at once"),
    ("P", "--partial and --progress"),
    (
        "hard-links,H ! no-hard-links no-H",
        "if the publisher says that no file has a second name; else rsync is run, when that is known",
    ),
    ("sparse,S ! no-sparse no-S", "the content is the same; no holes are made"),
    (
        "delay-updates ! no-delay-updates",
        "links wait too; what waits is in .p2psync.partial, and not in .~tmp~",
    ),
    (
        "partial-dir=DIR",
        "what has come of a file is kept in .p2psync.partial; DIR is neither fetched nor deleted",
    ),
    ("temp-dir=DIR,T", "what is on its way is in .p2psync.partial, in DEST"),
    ("outbuf=N|L|B", "each line is written at once"),
    ("partial ! no-partial", "what has come of a file is always kept, in .p2psync.partial"),
    ("ipv4,4", "sources are reached by whichever family works"),
    ("ipv6,6", "sources are reached by whichever family works"),
)
_NOTHING: Final = _rows(
    Handling.NOTHING,
    ("motd ! no-motd", "no message of the day is shown"),
    ("inc-recursive i-r ! no-inc-recursive no-i-r", "an archive's list of files needs no walk"),
    ("dirs,d ! no-dirs no-d", "means nothing beside -r"),
    ("one-file-system,x ! no-one-file-system no-x", "an archive has no file systems in it"),
    ("executability,E", "means nothing beside -p"),
    ("numeric-ids ! no-numeric-ids", "archives have no owners"),
    ("whole-file,W ! no-whole-file no-W", "chunks are compared, and by hash"),
    ("block-size=SIZE,B", "chunks are as the archive has them"),
    ("fuzzy,y ! no-fuzzy no-y", "what is in DEST under any name is used"),
    ("checksum-choice=STR cc", "chunks have BLAKE3"),
    ("checksum-seed=NUM", "chunks have BLAKE3"),
    ("compress,z ! no-compress no-z", "chunks travel as they are"),
    ("old-compress", "see --compress"),
    ("new-compress", "see --compress"),
    ("compress-choice=STR zc", "see --compress"),
    ("compress-level=NUM zl", "see --compress"),
    ("compress-threads=NUM zt", "see --compress"),
    ("skip-compress=LIST", "see --compress"),
    ("preallocate", "room on the disk is looked for before anything is fetched"),
    ("max-alloc=SIZE", "memory is bounded"),
    ("open-noatime ! no-open-noatime", "is about the sender"),
    ("secluded-args,s protect-args ! no-secluded-args no-protect-args no-s", "no shell reads the arguments"),
    ("old-args ! no-old-args", "no shell reads the arguments"),
    ("trust-sender", "nobody is trusted: all is verified"),
    ("blocking-io ! no-blocking-io", "is about remote shells"),
    ("rsync-path=PROGRAM", "is about remote shells"),
    ("qsort", ""),
    ("drop-D ! no-drop-D", "archives have no devices and special files"),
)
_HANDED: Final = _rows(
    Handling.HANDED,
    ("debug=FLAGS", ""),
    ("stderr=e|a|c", ""),
    ("msgs2stderr ! no-msgs2stderr", ""),
    ("relative,R ! no-relative no-R", ""),
    ("implied-dirs i-d ! no-implied-dirs no-i-d", "means nothing without --relative"),
    ("backup,b ! no-backup", ""),
    ("backup-dir=DIR", ""),
    ("suffix=SUFFIX", ""),
    ("inplace ! no-inplace", ""),
    ("append ! no-append", ""),
    ("append-verify", ""),
    ("old-dirs old-d", ""),
    ("copy-links,L", ""),
    ("copy-unsafe-links", ""),
    ("insecure-links ! no-insecure-links", ""),
    ("confine-root=DIR", ""),
    ("munge-links ! no-munge-links", ""),
    ("copy-dirlinks,k", ""),
    ("keep-dirlinks,K", ""),
    ("chmod=CHMOD", ""),
    ("acls,A ! no-acls no-A", ""),
    ("xattrs,X ! no-xattrs no-X", ""),
    ("copy-devices", ""),
    ("write-devices ! no-write-devices", ""),
    ("atimes,U ! no-atimes no-U", ""),
    ("crtimes,N ! no-crtimes no-N", ""),
    ("omit-link-times,J ! no-omit-link-times no-J", ""),
    ("super ! no-super", ""),
    ("fake-super", ""),
    ("rsh=COMMAND,e", "another way to the server"),
    ("remove-source-files remove-sent-files", "changes the server"),
    ("ignore-missing-args", ""),
    ("delete-missing-args", ""),
    ("usermap=STRING", ""),
    ("groupmap=STRING", ""),
    ("chown=USER:GROUP", ""),
    ("ignore-times,I", ""),
    ("compare-dest=DIR", ""),
    ("copy-dest=DIR", ""),
    ("link-dest=DIR", ""),
    ("cvs-exclude,C", "rules of each directory (.cvsignore)"),
    ("F", "rules of each directory"),
    ("copy-as=USER[:GROUP]", ""),
    ("address=ADDRESS", ""),
    ("sockopts=OPTIONS", ""),
    ("remote-option=OPT,M", "is for the server"),
    ("password-file=FILE", "the server wants to know who asks"),
    ("early-input=FILE", "is for the server"),
    ("list-only", "lists, and fetches nothing"),
    ("stop-after=MINS time-limit", ""),
    ("stop-at=y-m-dTh:m", ""),
    ("fsync", ""),
    ("write-batch=FILE", "a batch is of rsync's own protocol"),
    ("only-write-batch=FILE", "a batch is of rsync's own protocol"),
    ("read-batch=FILE", "a batch is of rsync's own protocol"),
    ("protocol=NUM", "rsync's own protocol"),
    ("iconv=CONVERT_SPEC ! no-iconv", "archives have the names of their publisher"),
    ("version,V", "says which rsync is there"),
    ("help", "shows rsync's own help"),
    ("daemon", "an rsync server"),
    ("config=FILE", "an rsync server"),
    ("dparam=OVERRIDE", "an rsync server"),
    ("detach ! no-detach", "an rsync server"),
    ("server", "what rsync starts on the other side"),
    ("sender", "what rsync starts on the other side"),
)

OPTIONS: Final = (*_SAME, *_DIFFERENT, *_NOTHING, *_HANDED)
"""Each option once."""
PARTS: Final = {
    "archive": ("recursive", "links", "perms", "times", "group", "owner", "devices", "specials"),
    "D": ("devices", "specials"),
    "P": ("partial", "progress"),
}
"""Options that stand for others."""


class Word(NamedTuple):
    """What a name on the command line means."""

    option: Option
    on: bool


LONG: Final = {
    name: Word(option, on)
    for option in OPTIONS
    for names, on in (((option.name, *option.others), True), (option.off, False))
    for name in names
    if len(name) > 1
}
LETTERS: Final = {
    letter: Word(option, True)
    for option in OPTIONS
    for letter in (option.letter, option.name)
    if len(letter) == 1
}
