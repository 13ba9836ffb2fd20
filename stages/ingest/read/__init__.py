"""One module a format: bytes to documents and refusals."""
