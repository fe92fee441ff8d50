"""Which environments a host has, found by reading alone."""
