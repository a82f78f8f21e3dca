"""Suites: one backbone, a LoRA per task, and every way of merging them measured on the same held-out data."""
