"""Follows files and folders: reads their history in time order, then whatever is written to them."""
