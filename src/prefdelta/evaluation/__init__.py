"""Evaluating a model with one adapter after another, and comparing them item by item."""
