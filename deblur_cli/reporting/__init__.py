"""Pages that show a photographer what was done: self-contained HTML, opened from disk."""
