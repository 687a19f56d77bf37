"""Antiphon: a self-hosted developer platform that speaks the Claude API."""

__version__ = "0.1.0"
