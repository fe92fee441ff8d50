"""Servers that speak the OpenAI API, compared by what was measured of each, and measured from the controller."""
