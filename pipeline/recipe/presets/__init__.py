"""Recipes that ship with rewarm; ``rewarm recipes`` lists them."""
