"""The subcommands of ``p2psync dht``, one a file; ``p2psync.cli.dht_cmd`` puts them together."""
