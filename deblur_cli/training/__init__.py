"""Training networks: configuration, data, losses, loop, checkpoints."""
