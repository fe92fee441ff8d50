"""Environments: locks, what a host has, building from a bundle, and proving what was built."""
