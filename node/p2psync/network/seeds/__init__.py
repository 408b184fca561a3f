"""Seeds: how a node or client finds the network the first time. Signed lists from files, DNS and the web.

``seedlist`` is the format, ``query`` what may be asked, ``ask`` the asking, ``book`` what is believed and
kept, ``find`` all of it together.
"""
