"""What -C leaves out: what cvs(1) ignores, as rsync has it (rsync(1), ``--cvs-exclude``). Pure."""

from __future__ import annotations

from typing import Final

DEFAULT: Final = (
    b"RCS SCCS CVS CVS.adm RCSLOG cvslog.* tags TAGS .make.state .nse_depinfo *~ #* .#* ,* _$* *$ *.old "
    b"*.bak *.BAK *.orig *.rej .del-* *.a *.olb *.o *.obj *.so *.exe *.Z *.elc *.ln core .svn/ .git/ .hg/ "
    b".bzr/"
)
"""Patterns, separated by spaces."""
