"""Taking over what serves a port already: found in /proc, and written down as a release that a rollback can start."""
