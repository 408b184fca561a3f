"""Where bytes, metadata and the addresses of other holders come from."""
