"""`rewarm schedule`: a recipe's learning rate over a base and its updates, computed and drawn."""
