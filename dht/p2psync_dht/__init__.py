"""p2psync_dht: signed records in a Kademlia DHT. A library of its own; it knows nothing of files."""
