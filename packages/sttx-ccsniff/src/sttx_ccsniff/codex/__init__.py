"""Codex CLI: its rollouts become traces."""
