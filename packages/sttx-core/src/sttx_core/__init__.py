"""Trace types, tokenizers, phrases and replay: the decisions of sttx, without tensors."""
