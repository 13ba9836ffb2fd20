"""Quality rules: named, versioned, each threshold a setting with its paper."""
