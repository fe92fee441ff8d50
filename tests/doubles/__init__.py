"""Test doubles: light stand-ins for what a quick test cannot have. Nothing here is part of the product."""
