"""Benchmarks: `make bench-NAME` runs one, prints a table, and exits with 1 beyond its limit."""
