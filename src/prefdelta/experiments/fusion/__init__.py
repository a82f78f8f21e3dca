"""The kind ``fusion``: from sources to a student trained by WRPO, its control and other comparisons."""
