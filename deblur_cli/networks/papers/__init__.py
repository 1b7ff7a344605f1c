"""The published networks, one a file, their matching and their critics; `networks/` itself holds the bundled ones."""
