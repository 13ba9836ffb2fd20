"""Cleaning: main text out of pages, Unicode repair, block-lists of addresses, languages, masks over personal data."""
