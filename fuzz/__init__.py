"""Coverage-guided fuzzing of what strangers send to a node: see docs/fuzzing.md."""
