"""What a host is and what serves there, before anything is described: for the first inventory."""
