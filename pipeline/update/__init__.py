"""One update of a model: the story in ``update``, its steps, and its record."""
