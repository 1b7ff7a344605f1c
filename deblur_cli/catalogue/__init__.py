"""Name or file to typed model: the only place that meets the Hub or a pickle."""
