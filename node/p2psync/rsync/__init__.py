"""rsync's own command line: its options, how it is read, and where the real rsync is. Knows no archive."""
