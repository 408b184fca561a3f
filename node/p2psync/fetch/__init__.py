"""Fetching: make a directory like an archive, from many sources at once. ``engine`` runs it; see there.

Nothing is imported here: whoever only wants to say what is to be fetched (``options``) loads no network.
"""
