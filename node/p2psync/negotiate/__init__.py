"""From a server that people know (rsync, web, or a host's name) to the archive that is the same there."""
