"""The manual: a page for each command, made of the command's own help and of what `entries` adds to it.

`page` makes values that `roff` and `text` write out: man pages that the build puts into the wheel, and what
``p2psync help`` shows. Nothing here is imported before somebody asks for help.
"""
