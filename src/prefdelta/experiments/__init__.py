"""Experiments: recipes as units of work that are planned, run, resumed and published."""
