"""Low-rank algebra in pure torch; knows nothing of adapters, files or merge methods."""
