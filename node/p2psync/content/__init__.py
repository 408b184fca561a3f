"""The content server: what this node holds, served to other nodes, to curl and to browsers.

Depends on what is held through one small interface (``library``); when to serve, and to announce it, is the
daemon's and the fetch engine's.
"""
