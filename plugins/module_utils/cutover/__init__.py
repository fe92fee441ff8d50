"""Replacing what serves on a host: the gate that a release has to pass, and how its failures are told apart."""
