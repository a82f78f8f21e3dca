"""Readers of published question and answer files."""
