"""Learned merging: an objective on data, coefficients on factored directions, folded into an ordinary adapter."""
