"""deblur: photographs that a moving camera or subject blurred, restored."""

__version__ = "0.1.0"
