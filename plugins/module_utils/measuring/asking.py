"""Asks a server what it is, and for its answers at temperature 0."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.exchange import Client, Response, parsed
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import (
    Answers,
    Probes,
    Reply,
    Server,
)
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Messages, Prompts
from ansible_collections.deployer.sglang.plugins.module_utils.wording import printable

API_KEY = "OPENAI_API_KEY"
PATIENCE = 600  # seconds for one answer: a long one of a large model, behind other clients' requests
HIDDEN = "***"
LOOK = 15  # seconds for what a server knows without its model
SHORT_ANSWER = 8  # tokens of a probe
ASKED = {"role": "user", "content": "Say hello."}
OWN_SYSTEM = {"role": "system", "content": "Be brief."}
# The system prompts that LLaMA-Factory's templates (data/template.py, 0.9.5) and published chat templates put in where
# a client sends none. SGLang renders the checkpoint's own.
KNOWN_SYSTEM_PROMPTS = (
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant",
    "You are a helpful AI assistant.",
    "You are ChatGPT, a large language model trained by OpenAI.",
    "You are Granite, developed by IBM. You are a helpful AI assistant.",
    "You are a helpful assistant provided by Moonshot-AI.",
    "You are MiMo, a helpful AI assistant engineered by Xiaomi.",
    "You are a helpful assistant. Your name is MiniMax-M2.1 and is built by MiniMax.",
    "You are OpenCoder, created by OpenCoder Team.",
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face.",
    "You are Zephyr, a helpful assistant.",
    "You are a helpful assistant. 你是一个乐于助人的助手。",
)
PROBES = 3 + len(KNOWN_SYSTEM_PROMPTS)  # requests beside the prompts, at most
# Of what a server says of itself: what a reader of a comparison has to know, and nothing that could be a secret.
FLAGS = re.compile(
    r"model_path|tokenizer_path|chat_template|sampling_defaults|reasoning_parser|tool_call_parser|dtype|quantization"
    r"|kv_cache_dtype|context_length|mem_fraction_static|max_total_tokens|max_running_requests|chunked_prefill_size"
    r"|schedule_policy|tp_size|dp_size|pp_size|ep_size|device|attention_backend|sampling_backend|disable_radix_cache"
    r"|disable_cuda_graph|disable_overlap_schedule|enable_torch_compile|speculative_algorithm|stream_interval|random_seed"
)

Say = Callable[[str], None]


def usable_key(given: str) -> str:
    """A key without white space around it, as it can stand in a header; '' for none.

    Raises:
        DeployError: it cannot. The key itself is not said.
    """
    key = given.strip()
    if not (key.isascii() and key.isprintable()):
        raise DeployError(f"{API_KEY} holds characters that no API key has", "see how the variable was set")
    return key


def base_of(url: str) -> str:
    """The URL without what is often pasted with it.

    Raises:
        DeployError: it is no URL of a web server.
    """
    base = url.strip().rstrip("/").removesuffix("/chat/completions").removesuffix("/v1").rstrip("/")
    try:
        parts = urlsplit(base)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise DeployError(f"{url} is no URL: {error}", "give the server's, such as http://gpu1:8001") from error
    if not known or "@" in parts.netloc or not base.isprintable() or " " in base:
        raise DeployError(f"{url} is no URL of a server", f"give it as http://gpu1:8001; a key belongs in {API_KEY}")
    return base


def identify(http: Client, url: str, model: str = "", about: str = "") -> Server:
    """What a server is.

    Args:
        http: asks.
        url: of the server.
        model: to ask for; '' for the first that it lists.
        about: what the operator says of it.

    Raises:
        DeployError: it does not answer, or lists no model while none was named.
    """
    url = base_of(url)
    listed = _get(http, f"{url}/v1/models")
    data = listed.get("data") if isinstance(listed, dict) else None
    entries = data if isinstance(data, list) else []
    models = tuple(str(one["id"]) for one in entries if isinstance(one, dict) and "id" in one)
    if not models and not model:
        raise DeployError(f"{url} lists no models at /v1/models", "name the one to ask for with --model")
    engine, version, flags = _engine(http, url)
    return Server(url, model or models[0], models, engine, version, flags, about)


def ask(
    http: Client,
    server: Server,
    prompts: Prompts,
    max_tokens: int,
    say: Say = lambda text: None,
    patience: float = PATIENCE,
) -> Answers:
    """A server's answers, one after the other.

    Args:
        http: asks.
        server: who.
        prompts: what.
        max_tokens: that each answer may have.
        say: told how far it is.
        patience: seconds for one answer.

    Raises:
        DeployError: it has stopped answering, or wants a key.
    """

    def reply(messages: Messages, most: int) -> Reply:
        return reply_to(http, server, messages, most, patience)

    replies = []
    for number, messages in enumerate(prompts.messages, 1):
        say(f"{server.url}: prompt {number} of {len(prompts.messages)}")
        replies.append(reply(messages, max_tokens))
    say(f"{server.url}: how it renders prompts")
    bare = reply((ASKED,), SHORT_ANSWER)
    probes = Probes(
        bare=bare,
        own_system=reply((OWN_SYSTEM, ASKED), SHORT_ANSWER),
        added=_added(reply, bare),
        repeated=reply(prompts.messages[0], max_tokens),
    )
    return Answers(prompts, max_tokens, tuple(replies), probes)


def reply_to(http: Client, server: Server, messages: Messages, max_tokens: int, patience: float = PATIENCE) -> Reply:
    """The answer to one prompt; a refusal of the server is an answer as well.

    Raises:
        DeployError: there is none, or it wants a key.
    """
    body = {
        "model": server.model,
        "messages": [dict(one) for one in messages],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": False,
    }
    url = f"{server.url}/v1/chat/completions"
    answer = http.exchange(url, patience, body)
    _refuse_without_key(url, answer)
    if answer.status != 200:
        return Reply(error=f"{answer.status} {_said(http, answer)}")
    try:
        return _reply(parsed(answer.content))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return Reply(error=f"an answer that is no chat completion: {type(error).__name__}: {error}")


def _reply(answer: Mapping[str, Any]) -> Reply:
    choice = answer["choices"][0]
    usage = answer.get("usage") or {}
    message = choice["message"]
    return Reply(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        finish_reason=str(choice.get("finish_reason") or ""),
        text=str(message.get("content") or ""),
        reasoning=str(message.get("reasoning_content") or ""),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _added(reply: Callable[[Messages, int], Reply], bare: Reply) -> str:
    """The system prompt that is there already where a client sends none: sending it changes nothing."""
    if bare.prompt_tokens is None:
        return ""
    for known in KNOWN_SYSTEM_PROMPTS:
        if reply(({"role": "system", "content": known}, ASKED), SHORT_ANSWER) == bare:
            return known
    return ""


def _engine(http: Client, url: str) -> tuple[str, str, dict[str, str]]:
    """Engine, version and flags, by paths that only that engine has."""
    for path in ("/server_info", "/get_server_info"):
        info = _look(http, url + path)
        if "model_path" in info or "version" in info:
            flags = {name: str(value) for name, value in info.items() if FLAGS.fullmatch(name) and value is not None}
            return "sglang", str(info.get("version") or ""), flags
    paths = _look(http, f"{url}/openapi.json").get("paths")
    if isinstance(paths, dict) and "/v1/score/evaluation" in paths:
        return "llamafactory", "", {}
    version = _look(http, f"{url}/version").get("version")
    return ("vllm", str(version), {}) if version else ("", "", {})


def _look(http: Client, url: str) -> dict[str, Any]:
    """A JSON object that may be there; empty where it is not."""
    try:
        answer = http.exchange(url, LOOK)
        value = parsed(answer.content) if answer.status == 200 else {}
    except (DeployError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _get(http: Client, url: str) -> Any:
    answer = http.exchange(url, LOOK)
    _refuse_without_key(url, answer)
    if answer.status != 200:
        raise DeployError(f"{url} answered {answer.status} {_said(http, answer)}", "give the URL of an OpenAI API")
    try:
        return parsed(answer.content)
    except ValueError as error:
        raise DeployError(f"{url} did not answer with JSON", "give the URL of an OpenAI API") from error


def _refuse_without_key(url: str, answer: Response) -> None:
    if answer.status in (401, 403):
        raise DeployError(f"{url} wants another API key ({answer.status})", f"put it into {API_KEY}")


def _said(http: Client, answer: Response) -> str:
    return printable(without(http.key, " ".join(answer.text.split()))[:300])


def without(key: str, text: str) -> str:
    """What a server says, without the key that it was sent: some quote it."""
    return text.replace(key, HIDDEN) if key else text
