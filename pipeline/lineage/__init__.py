"""The workspace and what happened in it: updates, releases, their weights, the lease, verification."""
