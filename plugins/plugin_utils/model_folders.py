"""Facts of a model's folder on the controller, read once however many hosts are planned."""

from __future__ import annotations

import os

from ansible_collections.deployer.sglang.plugins.module_utils import model_config, model_facts, safetensors
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import canonical_json
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import identity, list_files
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts, read_model
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MODEL, Rules
from ansible_collections.deployer.sglang.plugins.plugin_utils.cache import cached

# Another version of these reads otherwise.
CODE = (model_config.__file__, model_facts.__file__, safetensors.__file__)


def model_folder(folder: str, rules: Rules = MODEL) -> ModelFacts:
    """The facts of the model in `folder`, of what the rules leave in it.

    Raises:
        DeployError: there is no such folder, or no config.json in it that says what a model is.
    """
    try:
        files = list_files(folder, rules)
        state = canonical_json(
            [sorted((path, identity(real)) for path, real in files.items()), list(map(identity, CODE))]
        )
        value = cached("models", os.path.realpath(folder), state, lambda: read_model(folder, files).as_dict())
    except OSError as error:
        raise DeployError(str(error), "make it readable for the user who runs Ansible") from None
    try:
        return ModelFacts.from_dict(value)
    except (KeyError, TypeError, ValueError):  # a damaged cache
        return read_model(folder, files)
