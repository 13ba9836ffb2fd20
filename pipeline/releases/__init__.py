"""What happens to releases after an update: promote, roll back, prune, push."""
