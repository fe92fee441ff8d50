"""Servers that speak the OpenAI API, measured one after the other and compared: what they answer, and how fast."""
