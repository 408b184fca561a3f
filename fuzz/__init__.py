"""Coverage-guided fuzzing of what strangers send to a DHT node: see docs/fuzzing.md."""
