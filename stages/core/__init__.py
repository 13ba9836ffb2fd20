"""Storage, the Ray cluster, settings, errors and progress: what every stage builds on."""
