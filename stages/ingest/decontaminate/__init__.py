"""Training text that overlaps with what a model is judged by: found by runs of 13 words."""
