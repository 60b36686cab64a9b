"""The sttx command: options, progress, tables and exit codes."""

from sttx_cli.app import COMMANDS, main, run

__all__ = ["COMMANDS", "main", "run"]
