"""Every way coding-agent traces come in: session files, exports and the live ccsniff watcher."""
