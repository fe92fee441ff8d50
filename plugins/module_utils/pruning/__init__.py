"""Pruning a host: what lies there, who uses it, what may go, and its removal."""
