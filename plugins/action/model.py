"""The controller's part of M(deployer.sglang.model): read and hash the sources, ask the host, send what it misses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.store import UNKNOWN_DIGEST, Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import EVERY_HOST, HOST, parse_source
from ansible_collections.deployer.sglang.plugins.plugin_utils.addresses import connected_addresses
from ansible_collections.deployer.sglang.plugins.plugin_utils.fetching import is_fetched
from ansible_collections.deployer.sglang.plugins.plugin_utils.manifests import recall_manifest, remember_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.push import PushAction
from ansible_collections.deployer.sglang.plugins.plugin_utils.rsync import rsync
from ansible_collections.deployer.sglang.plugins.plugin_utils.weights_here import WeightsHere, rules_of, weights_here

MODULE = "deployer.sglang.model"


class ActionModule(PushAction):
    """Run once a host, for all its models: one round trip where all of them are there."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look at the sources, ask the host, and bring what is missing unless the relay does."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        transport = str(arguments.get("transport") or "connection")
        self._secrets = {key: str(value) for key, value in (arguments.pop("variables", None) or {}).items()}
        elsewhere = {one["source"]: one for one in arguments.pop("sources", None) or [] if one.get("digest")}
        here: dict[str, WeightsHere] = {}
        try:
            models, unfetched = [], []
            for model in arguments.get("models") or []:
                if self._task.check_mode and model["source"] not in elsewhere and self._is_to_fetch(model):
                    unfetched.append(not_fetched(model, str(arguments.get("root"))))
                    continue
                found = None if model["source"] in elsewhere else self._found_here(model, variables)
                if found is not None:
                    here[model["source"]] = found
                models.append(described(model, found, elsewhere.get(model["source"]), transport))
            answer = self._phase(MODULE, {**arguments, "models": models, "phase": "query"}, variables)
            if answer.get("failed") or "models" not in answer:
                return answer
            answer["models"] += unfetched
            if transport == "relay":
                return self._shown(self._for_relay(answer, here, elsewhere, models, variables))
            brought = [one for one in answer["models"] if not one["digest"]]
            for model, there in zip(models, answer["models"]):
                if there["missing"]:
                    self._source, self._rate = here[model["source"]], int(arguments.get("rate") or 0)
                    single = {**arguments, "models": [model]}
                    there = self.bring(there, MODULE, single, self._source.files, variables)
                    if there.get("failed"):
                        return there
                brought.append({key: value for key, value in there.items() if key != "incoming"})
        except DeployError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        except OSError as error:
            message = f"{error}. Fix: make it readable for the user who runs Ansible"
            return {"failed": True, "changed": False, "msg": message}
        changed = any(one.get("changed") or not one["digest"] for one in brought)
        return self._shown({"changed": changed, "models": brought})

    def _is_to_fetch(self, model: Mapping[str, Any]) -> bool:
        """Whether the model comes from a hub or a web server, and is not here yet."""
        source = parse_source(model["source"])
        if not source.is_fetched:
            return False
        return bool(model.get("fetch_on")) or not is_fetched(source, rules_of(model), self._secrets)

    def _found_here(self, model: Mapping[str, Any], variables: Mapping[str, Any]) -> WeightsHere | None:
        """The model's files on the controller; None where hosts have it, or one is to fetch it."""
        if parse_source(model["source"]).kind in (EVERY_HOST, HOST) or model.get("fetch_on"):
            return None
        try:
            return weights_here(model, variables.get("inventory_dir"), self._secrets)
        except DeployError as error:
            raise DeployError(f"model {model['name']}: {error.problem}", error.fix, error.detail) from error

    def _for_relay(
        self,
        answer: dict[str, Any],
        here: Mapping[str, WeightsHere],
        elsewhere: Mapping[str, Mapping[str, Any]],
        models: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The answer, with what a transfer has to know: from where, and at which addresses."""
        missing = any(one["missing"] for one in answer["models"])
        for model, one in zip(models, answer["models"]):
            one.pop("incoming", None)
            if not one["missing"]:
                continue
            found, there = here.get(model["source"]), elsewhere.get(model["source"])
            rules = {key: list(model.get(key) or ()) for key in ("exclude", "include")}
            if found is not None:
                remember_manifest(found.manifest)
                one["origin"] = {"host": "", "folder": found.folder, **rules}
            elif there is not None:
                one["origin"] = {**{key: there[key] for key in ("host", "folder", "address")}, **rules}
        if missing and not self._task.check_mode:
            relay = dict(answer.get("relay") or {})
            client, address = connected_addresses(self, variables)
            answer["relay"] = {**relay, "address": relay.get("address") or address, "controller": client}
            answer["root"] = self._task.args["root"]
        return {**answer, "changed": missing and self._task.check_mode}

    def _phase(self, module: str, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """An answer about one model is that model's."""
        answer = super()._phase(module, arguments, task_vars)
        if arguments["phase"] == "query" or answer.get("failed") or "models" not in answer:
            return answer
        return {"changed": answer["changed"], **answer["models"][0]}

    def _send(self, missing: Sequence[str], files: Mapping[str, str], folder: str) -> None:
        """By rsync where that is asked for and the host is reached by SSH; else as every action does."""
        if self._task.args.get("transport") == "rsync" and self._connection.transport == "ssh":
            rsync(self._connection, missing, self._source.folder, folder, self._rate)
        else:
            super()._send(missing, files, folder)

    def _shown(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result, with a diff where one is asked for."""
        after = "".join(f"{one['path']}/{path}\n" for one in result["models"] for path in one["missing"])
        if self._task.diff and after:
            result["diff"] = {"before": "", "after": after, "after_header": "weights"}
        return result


def not_fetched(model: Mapping[str, Any], root: str) -> dict[str, Any]:
    """What check mode says of a model that has still to be fetched: nothing of it is known on hosts."""
    return {
        "name": model["name"],
        "source": model["source"],
        "digest": "",
        "path": Store(root).model(str(model["name"]), UNKNOWN_DIGEST),
        "bytes": 0,
        "missing": [f"all of {model['source']}, which has still to be fetched"],
        "linked": [],
        "to_send": 0,
        "in_place": False,
    }


def described(
    model: Mapping[str, Any], here: WeightsHere | None, there: Mapping[str, Any] | None, transport: str
) -> dict[str, Any]:
    """A model as the module takes it.

    Args:
        model: as the task has it.
        here: its files on the controller.
        there: what a host that has its folder said.
        transport: as the task has it.
    Raises:
        DeployError: the transport cannot bring it.
    """
    if here is not None:
        return {**model, "manifest": here.manifest.as_dict()}
    if there is None:
        source = parse_source(model["source"])
        if source.kind == EVERY_HOST:
            return {**model, "folder": source.path}
        raise DeployError(f"model {model['name']}: {source.text} was not looked at", "run the whole role model")
    if transport != "relay":
        raise DeployError(
            f"model {model['name']}: model_transport: {transport} cannot read {model['source']} on another host",
            "set model_transport: relay",
        )
    return {**model, "manifest": recall_manifest(str(there["digest"])).as_dict()}
