"""Recipes that come with rewarm; ``rewarm recipes`` lists them."""
