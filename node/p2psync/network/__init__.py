"""How a participant gets into the DHT, and what it says and asks there."""
