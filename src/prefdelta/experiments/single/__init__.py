"""Each stage by itself, on files a user names: the same work as in a run, outside a recipe."""
