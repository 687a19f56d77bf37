"""Logs, metrics and traces. None of them ever holds content or a secret: what is recorded is named field by field."""
