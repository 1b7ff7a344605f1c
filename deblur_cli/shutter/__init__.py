"""The virtual shutter: an exposure is the sum of light along a path."""
