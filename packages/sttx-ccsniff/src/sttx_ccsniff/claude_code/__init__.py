"""Reads Claude Code's session files."""
