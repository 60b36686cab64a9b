"""Reads files and streams: opens them, splits them into lines, and chooses the parser of their format."""
