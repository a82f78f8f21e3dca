"""A run directory on an object store: objects below a URL, the lease of whoever writes there, and the store."""
