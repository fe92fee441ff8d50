"""A test double of the SGLang package: its launch module is tests/doubles/openai_server.py, put beside this file."""
