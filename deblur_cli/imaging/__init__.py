"""Files to Photo and back: the only place that reads or creates a photograph."""
