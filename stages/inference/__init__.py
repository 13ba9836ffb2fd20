"""Inference: actors that run models without training them, and the losses that they compute."""
