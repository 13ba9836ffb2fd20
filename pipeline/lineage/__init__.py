"""A workspace and its history: updates, releases, weights, the lease, verification."""
