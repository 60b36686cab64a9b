"""What all parsers share: decoding, content, token usage, typed traces as JSON, project names."""
