"""Reads exported lines: rows of `ccsniff --json`, and pairs of prompt and completion."""
