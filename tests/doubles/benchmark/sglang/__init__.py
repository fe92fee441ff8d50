"""A test double of SGLang: as much of its serving benchmark as the load uses."""

__version__ = "0.5.23"
