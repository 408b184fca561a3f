"""The benchmark of the DHT: `python -m bench.dht`, see `docs/benchmarks.md`."""
