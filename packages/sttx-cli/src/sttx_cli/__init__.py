"""The sttx command: options, progress, tables and exit codes."""
