"""Exported lines that become traces: rows of `ccsniff --json`, and pairs of prompt and completion."""
