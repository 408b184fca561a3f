"""Benchmarks: p2psync beside the tools that a user would pick instead, on the same data, in one run."""
