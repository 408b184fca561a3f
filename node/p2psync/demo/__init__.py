"""``p2psync demo``: a whole network of real processes on this machine that loses its origin and serves on.

``play`` tells the story, ``network`` starts and ends the processes, ``compare`` judges the result.
"""
