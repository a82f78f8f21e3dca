"""Backbones: pretrained here from the tasks' own training data, or taken as they are."""
