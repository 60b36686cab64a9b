"""Reads Codex CLI's rollouts."""
