"""What the parsers share: records, content, token usage, typed traces as JSON, project names."""
