"""Reads OpenCode's SQLite database."""
