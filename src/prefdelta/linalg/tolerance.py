"""What counts as rounding noise, told without torch for the models of options that say so."""

SVD_TOLERANCE = 1e-12
"""Singular values below this fraction of the largest are rounding noise of float64, not directions."""
