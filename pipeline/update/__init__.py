"""One update of a model: its sequence of steps in ``update``, the steps, and its record."""
