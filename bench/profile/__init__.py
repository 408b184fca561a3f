"""Where the processor time of p2psync goes, by room and by function: ``python -m bench.profile fetch``."""
