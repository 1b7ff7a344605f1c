"""Folders of pairs to a table of scores."""
