"""Environments on the controller: what is wanted, locked with the hash of every file, fetched into a bundle."""
