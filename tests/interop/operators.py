"""The command lines of operators of public mirrors, as lists of options: what such scripts have in them, in
the proportions in which they have it. SRC and DEST are put behind. HERE is a folder with the files that
some of them read, PORT the port of the server, and `_` a space in a word; `host` has the server named as
HOST::MODULE.
"""

from __future__ import annotations

import re
from typing import Final

TEXT: Final = """
two stages, the first: -prltvHSB8192 --timeout 3600 --stats --exclude=Packages* --exclude=Release*
    --no-motd
two stages, the second: -prltvHSB8192 --timeout=3600 --stats --max-delete=40000 --delay-updates --delete
    --delete-delay --delete-excluded --exclude=.~tmp~/ --exclude=/project/trace/here
    --filter=protect_*.lock
two stages for another distribution, the first: --recursive --times --links --safe-links --hard-links
    --stats --exclude=Packages* --exclude=Sources* --exclude=Release* --exclude=InRelease
two stages for another distribution, the second: --recursive --times --links --safe-links --hard-links
    --stats --delete --delete-after
a job server's usual options: -aHvh --no-o --no-g --stats --filter=risk_.~tmp~/ --exclude=.~tmp~/ --delete
    --delete-after --delay-updates --safe-links --timeout=120
a job server's, IPv4: -aHvh --no-o --no-g --stats --exclude=.~tmp~/ --delete --delete-after
    --delay-updates --safe-links --contimeout=120 --timeout=120 -4
a job server's, IPv6: -aHvh --no-o --no-g --stats --exclude=.~tmp~/ --delete --delete-delay
    --delay-updates --safe-links --timeout=120 -6
a container for mirrors: -pPrltvH --partial-dir=.rsync-partial --timeout=14400 --safe-links --delete-delay
    --delete-excluded --exclude=.~tmp~/ --exclude-from=HERE/excluded --bwlimit=0 --max-delete=4000
a list of changed files: -aSH -f R_.~tmp~ --stats --delay-updates --no-motd --out-format=@_%i_%10l__%n%L
    --files-from=HERE/list
the same for what is old: -aSH -f R_.~tmp~ --no-motd --files-from=HERE/list --ignore-existing
rolling, quiet: -rlptH --safe-links --delete-delay --delay-updates --timeout=600 --contimeout=60 --no-motd
    -q
rolling, to a terminal: -rlptH --safe-links --delete-delay --delay-updates --timeout=600 --no-motd -h -v
    --progress
rolling, limited: -rtlvH --delete-after --delay-updates --safe-links --max-delete=1000 --bwlimit=20m
    --no-motd
enterprise: -avSH --delete-delay --delay-updates -f R_.~tmp~ --exclude-from=HERE/excluded
enterprise, another: -aqH --delete --safe-links --no-motd
enterprise, verbose: -avqH --delete --delete-after --delay-updates --safe-links --timeout=30
small distribution: --archive --update --hard-links --delete --delete-after --delay-updates --timeout=600
    --verbose
small distribution, parts: -avH --delete --exclude=v2.* --exclude=v3.0 --include=v3.1 --exclude=edge/armhf
sources of a distribution: --recursive --links --perms --times -D --delete --timeout=300 --checksum
    --human-readable
its portage tree: --recursive --links --safe-links --perms --times -O --compress --force
    --whole-file --delete --stats --human-readable --timeout=180 --exclude=/distfiles --exclude=/local
    --exclude=/packages
software of a foundation: -avz --safe-links --delete
software of a foundation, limited: -rtlzv --bwlimit=5000 --delete --safe-links
statistics: -rtlzv --delete
statistics, by cron: -rptlzq --delete
a language's modules: -av --delete
a language's modules, all: -aH --delete --numeric-ids --timeout=600
typesetting: -av --delete --exclude=/systems/windows
an office suite: -avH --delete-after --no-motd --contimeout=30
a media player: -rltH --delete-after --safe-links --delay-updates
a BSD: -aH --delete --delete-after --stats --no-motd -v --partial
a BSD, packages: -rlpt --delete-delay -iv --safe-links --port=PORT host
a rolling distribution of build services: -rlpHtSv --exclude=.~tmp~/ --delete-after --delay-updates
    --stats --no-motd
books: -av --del --stats
books, generated: -avHS --timeout=600 --delete --exclude-from=HERE/excluded
proteins: -rlpt -v -z --delete --port=PORT host
sequences: --copy-links --recursive --times --verbose
sequences of another archive: -rLtv --exclude=*.md5
encyclopedias: -vzrlptD --delete --info=progress2 --no-perms
a university, everything: -rlptD --chmod=D755,F644 --delete --stats -h --max-delete=500
    --log-file=HERE/log
a university, Fedora's way: -avSHP --delete --delete-after --temp-dir=HERE --timeout=60
a university, listed: -rlptH --itemize-changes --delete --log-file=HERE/log --timeout=900
a university, moved: -aHi --delete-excluded --filter=exclude_/dir0/ --filter=include_*/ --delete
a university, a link farm: -aH --link-dest=HERE --delete
a university, in place: -av --inplace --delete --bwlimit=100m
a university, small files first: -rlpt --max-size=5k -v -u --existing
a university, size only: -rlpt --size-only --delete --ignore-errors --force -q
a university, its addresses: -rlptv --address=127.0.0.1 --delete -x
a look beforehand: -rlptn --delete --itemize-changes
a look at one list: --list-only
as another name: -rltK --no-links -O -y --preallocate
with relative names: -rlptR --no-inc-recursive
without empty directories: -rlptm --include=*/ --include=file* --exclude=* --delete-excluded --delete
with attributes: -aAX --delete
"""

LINES: Final = tuple(
    (name, " ".join(words.split())) for name, words in re.findall(r"(?m)^(\w.*?): (.*(?:\n .*)*)$", TEXT)
)
"""What kind of mirror it is, and its options."""
QUICK: Final = (1, 4, 8, 10, 19, 30, 40, 51)
"""Those that every run of the tests tries."""
