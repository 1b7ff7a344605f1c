"""One network over one picture of any size."""
