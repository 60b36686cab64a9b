"""Claude Code: its session files become traces."""
