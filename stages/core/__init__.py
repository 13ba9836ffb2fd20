"""Core services for all stages: storage, the Ray cluster, settings, errors and progress."""
