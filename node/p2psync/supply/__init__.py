"""How wanted objects are had: chunks that are here, the network, and what peers are given meanwhile."""
