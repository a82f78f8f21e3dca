"""Merge methods: options, the catalogue that declares them, and pure functions of updates, one file per family."""
