"""The archive format: head -> snapshot -> directory objects -> recipes -> chunks. Pure: no I/O, no clock.

The specification with test vectors is docs/spec/manifest.md.
"""
