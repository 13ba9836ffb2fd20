"""Which files an arrival consists of, and their bytes."""
