"""The chain transfer between hosts: every host serves what it has while it is still receiving."""
