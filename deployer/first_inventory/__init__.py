"""The first inventory of a fleet, written from what its hosts say of themselves."""
