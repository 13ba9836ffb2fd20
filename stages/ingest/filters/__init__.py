"""Filters of documents: languages, addresses, Unicode repair, quality rules, masks over personal data."""
