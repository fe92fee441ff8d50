"""Measures servers that speak the OpenAI API, on a host or from the controller: what they answer, and how fast.

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""
