"""Where the addresses of sources come from: given by hand, remembered, from the DHT, and from the sources
themselves. ``discovery`` brings them together.
"""
