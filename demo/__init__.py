"""The inputs of the demo and of the lab tests: the real engines in CPU environments, and tiny models to serve."""
