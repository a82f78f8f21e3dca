"""The kind ``aggregation``: many preference deltas, merged into one adapter, domain by domain."""
