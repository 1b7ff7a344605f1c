"""A camera's own shots to a camera profile."""
