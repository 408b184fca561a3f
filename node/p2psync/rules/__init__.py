"""What takes part in a transfer, in rsync's filter language. Pure: `parse` makes rules of text, `patterns`
matches one of them, `scope` decides for the names of a directory, and `filter` is the whole list.
"""
