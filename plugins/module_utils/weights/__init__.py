"""Weights: which files are the model, what they hash to, and whether a host still has them."""
