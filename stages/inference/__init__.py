"""Actors that hold a model, and the losses they compute."""
