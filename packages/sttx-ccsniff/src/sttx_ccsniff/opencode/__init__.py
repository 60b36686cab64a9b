"""OpenCode: its SQLite store becomes traces."""
