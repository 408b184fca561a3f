"""rsync's filter language: parsing, and the decision for a path. Pure."""
