"""Asks servers from the controller, with the operator's own key."""

from __future__ import annotations

import os

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.asking import API_KEY, usable_key
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.exchange import Client


def api_key() -> str:
    """The key that OPENAI_API_KEY holds, as OpenAI's own clients take it; '' for none.

    Raises:
        DeployError: it cannot stand in a header.
    """
    return usable_key(os.environ.get(API_KEY, ""))


def client() -> Client:
    """Asks with that key.

    Raises:
        DeployError: as `api_key` does.
    """
    return Client(api_key())
