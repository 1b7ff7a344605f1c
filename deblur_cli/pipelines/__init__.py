"""Photo in, photo out: one recipe a file."""
