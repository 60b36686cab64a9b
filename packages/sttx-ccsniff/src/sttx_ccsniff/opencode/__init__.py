"""Reads OpenCode's databases and exports."""
