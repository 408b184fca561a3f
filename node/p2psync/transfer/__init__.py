"""Where bytes come from: an HTTP/1.1 client of our own, and the sources that speak through it.

Imports nothing above the format core; what to ask of whom is the fetch engine's.
"""
