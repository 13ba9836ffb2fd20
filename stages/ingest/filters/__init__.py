"""Document filters: languages, URL block-lists, Unicode repair, quality rules, masks of personal data."""
