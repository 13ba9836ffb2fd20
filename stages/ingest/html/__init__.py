"""HTML pages: their character encoding, their main text, and a guard against pages that take too long."""
