"""Why two servers answer differently, and the option that would remove it: what their answers tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Reply, Server
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.parity import (
    FINISH,
    REASONING,
    REFUSAL,
    TEXT,
    TOKENS,
    Evidence,
    Pair,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.migration import (
    KEPT_BY_THE_MODEL,
    LLAMAFACTORY,
    SGLANG,
)
from deployer.compare.parity import Explanation
from deployer.wording import counted

SPECIAL_TOKEN = re.compile(r"<\|[^|<>\s]{1,40}\|>|</s>")
ALTERNATING = re.compile(r"u/a/u|Invalid role|Invalid length")  # LLaMA-Factory's api/chat.py
SGLANG_TEMPLATE = "chat_template in the options of SGLang"
LLAMAFACTORY_TEMPLATE = "template in those of LLaMA-Factory"


def explanations(seen: Evidence) -> tuple[Explanation, ...]:
    """What explains the differences, the cause of others first."""
    if not any(pair.differences for pair in seen.pairs):
        return ()
    rules: tuple[Callable[[Evidence], Iterator[Explanation]], ...] = (
        _refusals,
        _unrepeatable,
        _templates,
        _no_usage,
        _reasoning,
        _special_tokens,
        _stops,
        _sampling,
    )
    return tuple(one for rule in rules for one in rule(seen))


def notes(seen: Evidence) -> tuple[Explanation, ...]:
    """What clients may meet and prompts at temperature 0 do not show."""
    return tuple(_notes(seen.old, seen.new, seen.pairs))


def _notes(old: Server, new: Server, pairs: Sequence[Pair]) -> Iterator[Explanation]:
    if old.models and new.models and set(old.models).isdisjoint(new.models):
        yield Explanation(
            "served-name-differs",
            f"the old server lists {', '.join(old.models)}, the new one {', '.join(new.models)}: clients that look at "
            "/v1/models miss the name that they send",
            f"model.name: {old.models[0]} in the description of the service (SGLang's --served-model-name)",
        )
    if (old.engine, new.engine) == ("llamafactory", "sglang"):
        differing = [f"{name} {value} -> {SGLANG[name]}" for name, value in LLAMAFACTORY.items() if _differ(name)]
        yield Explanation(
            "sampling-defaults",
            "a request that sets none is sampled otherwise, unless LLaMA-Factory was started with others or "
            f"generation_config.json of the model says so: {', '.join(differing)}",
            f"let clients set them; SGLang takes {KEPT_BY_THE_MODEL}, unless sampling_defaults is openai",
        )
        yield Explanation(
            "stop-ignored",
            "LLaMA-Factory's huggingface backend ignores a request's stop, SGLang obeys it",
            "nothing to do where clients send none; answers that went on behind such a text end there now",
        )
    repeating = [pair for pair in pairs if pair.old.prompt_tokens is None or pair.new.prompt_tokens is None]
    if repeating and len(repeating) < len(pairs):
        yield Explanation("usage-missing", f"{counted(len(repeating), 'answer')} had no usage", "")


def _differ(name: str) -> bool:
    return str(LLAMAFACTORY[name]) != str(SGLANG[name])


def _refusals(seen: Evidence) -> Iterator[Explanation]:
    for who, replies in _sides(seen, lambda pair: REFUSAL in pair.differences):
        refused = [one.error for one in replies if one.error]
        if not refused:
            continue
        words = f"the {who} server refuses {counted(len(refused), 'prompt')} that the other answers: {refused[0]}"
        if any(map(ALTERNATING.search, refused)):
            fix = "LLaMA-Factory takes a system message, then user and assistant in turns: have clients send that"
        elif "context" in refused[0].lower() or "length" in refused[0].lower():
            fix = "context_length and max_total_tokens in the options of SGLang, cutoff_len in those of LLaMA-Factory"
        else:
            fix = f"see what the {who} server logs; deployer logs"
        yield Explanation("refused", words, fix)


def _unrepeatable(seen: Evidence) -> Iterator[Explanation]:
    first = seen.pairs[0]
    sides = (("old", first.old, seen.old_probes.repeated), ("new", first.new, seen.new_probes.repeated))
    for who, once, again in sides:
        if (once.text, once.finish_reason) != (again.text, again.finish_reason):
            yield Explanation(
                "not-repeatable",
                f"the {who} server answers the same prompt differently when it is asked twice at temperature 0: that a "
                "text differs from the other server's means little",
                "measure it while nobody else asks; enable_deterministic_inference in the options of SGLang",
            )


def _templates(seen: Evidence) -> Iterator[Explanation]:
    """Whether prompts are rendered to other lengths, and by what."""
    old, new = seen.old_probes.added, seen.new_probes.added
    if old and new and old != new:
        yield Explanation(
            "system-prompt",
            f"both servers add a system prompt where a client sends none, and not the same: the old one {old!r}, the "
            f"new one {new!r}",
            _one_template(seen),
        )
        return
    known = [pair for pair in seen.pairs if pair.more is not None]
    if not any(pair.more for pair in known):
        return
    without = {pair.more for pair in known if not pair.has_system}
    with_own = {pair.more for pair in known if pair.has_system} | {
        _more(seen.old_probes.own_system, seen.new_probes.own_system)
    }
    with_own.discard(None)
    if len(without) == 1 and with_own == {0}:
        more = next(iter(without)) or 0
        yield _system_prompt(seen, more)
    elif len(without | with_own) == 1:
        more = next(iter(without | with_own)) or 0
        who = "new" if more > 0 else "old"
        yield Explanation(
            "chat-template",
            f"the {who} server renders every prompt {counted(abs(more), 'token')} longer, with a system message of the "
            "client's or without: the markup around messages differs, such as a token at the beginning or an empty "
            "<think> block at the end",
            _one_template(seen),
        )
    else:
        lengths = ", ".join(f"{more:+d}" for more in sorted({pair.more or 0 for pair in known}))
        yield Explanation(
            "chat-template",
            f"prompts are rendered to other lengths, and not by the same number of tokens ({lengths}): the chat "
            "templates differ in what they do with each message, or the tokenizers differ",
            _one_template(seen),
        )


def _system_prompt(seen: Evidence, more: int) -> Explanation:
    who, server, probes = ("new", seen.new, seen.new_probes) if more > 0 else ("old", seen.old, seen.old_probes)
    what = f"{probes.added!r}" if probes.added else "none of those that are known; read it in its template"
    says = (
        f"the {who} server adds a system prompt of {counted(abs(more), 'token')} with its markup where a client sends "
        f"none: every prompt without one is longer by exactly that, and those with one are as long as the other "
        f"server's. It is {what}"
    )
    if server.engine == "llamafactory" and who == "old":
        fix = (
            f"{SGLANG_TEMPLATE}: a file of the model's template that adds the same; or let clients send it; or, where "
            "the model was tuned without, accept it"
        )
    elif server.engine == "llamafactory":
        fix = 'default_system: "" or another template in the options of LLaMA-Factory'
    elif server.engine == "sglang":
        fix = f"{SGLANG_TEMPLATE}: a file of the model's template without it"
    else:
        fix = "give both the same chat template"
    return Explanation("system-prompt", says, fix)


def _one_template(seen: Evidence) -> str:
    engines = {seen.old.engine, seen.new.engine}
    names = [
        text
        for engine, text in (("sglang", SGLANG_TEMPLATE), ("llamafactory", LLAMAFACTORY_TEMPLATE))
        if engine in engines
    ]
    return f"render alike by {', or '.join(names)}" if names else "give both the same chat template"


def _more(old: Reply, new: Reply) -> int | None:
    if old.prompt_tokens is None or new.prompt_tokens is None:
        return None
    return new.prompt_tokens - old.prompt_tokens


def _no_usage(seen: Evidence) -> Iterator[Explanation]:
    for who, replies in _sides(seen, lambda pair: TOKENS in pair.differences):
        if replies and all(one.prompt_tokens is None for one in replies):
            yield Explanation(
                "usage-missing",
                f"the {who} server does not say how long rendered prompts are: templates cannot be compared",
                "none; compare the templates themselves",
            )


def _reasoning(seen: Evidence) -> Iterator[Explanation]:
    for who, replies in _sides(seen, lambda pair: REASONING in pair.differences):
        if any(one.reasoning for one in replies):
            yield Explanation(
                "reasoning-parser",
                f"the {who} server takes reasoning out of the text and answers it as reasoning_content",
                "reasoning_parser in the options of SGLang: give it to both, or leave it out",
            )
            return


def _special_tokens(seen: Evidence) -> Iterator[Explanation]:
    for who, replies in _sides(seen, lambda pair: TEXT in pair.differences):
        found = sorted({token for one in replies for token in SPECIAL_TOKEN.findall(one.text)})
        other = [
            one for side, every in _sides(seen, lambda pair: TEXT in pair.differences) if side != who for one in every
        ]
        if found and not any(SPECIAL_TOKEN.search(one.text) for one in other):
            yield Explanation(
                "special-tokens",
                f"texts of the {who} server hold special tokens: {', '.join(found[:4])}",
                "skip_special_tokens in the request (SGLang) or the options (LLaMA-Factory), and the same stop tokens",
            )


def _stops(seen: Evidence) -> Iterator[Explanation]:
    went_on = {"old": 0, "new": 0}
    for pair in _rendered_alike(seen, FINISH):
        shorter, longer = sorted((pair.old, pair.new), key=lambda one: len(one.text))
        if shorter.finish_reason == "stop" and longer.text.startswith(shorter.text):
            went_on["old" if longer is pair.old else "new"] += 1
    for who, count in went_on.items():
        if count:
            yield Explanation(
                "stop-tokens",
                f"the {who} server goes on where the other stops, in {counted(count, 'answer')} that are the same "
                "up to there: it does not know a token that ends an answer",
                "eos_token_id in generation_config.json of the model, which SGLang reads; the stop words of "
                "LLaMA-Factory's template; or stop in the request",
            )
    limits = [
        (who, one)
        for who, replies in _sides(seen, lambda pair: FINISH in pair.differences)
        for one in replies
        if one.finish_reason == "length" and (one.completion_tokens or 0) < seen.pairs[0].max_tokens
    ]
    for who, one in limits[:1]:
        yield Explanation(
            "max-tokens",
            f"the {who} server ends an answer for its length after {one.completion_tokens} of "
            f"{seen.pairs[0].max_tokens} tokens: a limit of its own",
            "context_length and max_total_tokens in the options of SGLang",
        )


def _sampling(seen: Evidence) -> Iterator[Explanation]:
    """Texts that differ though prompts are rendered to one length."""
    pairs = [pair for pair in _rendered_alike(seen, TEXT) if not _goes_on(pair)]
    if not pairs:
        return
    early = min(pair.alike for pair in pairs)
    engines = {seen.old.engine, seen.new.engine}
    penalty = (
        "SGLang takes repetition_penalty from the model's generation_config.json, LLaMA-Factory does not; "
        if engines == {"sglang", "llamafactory"}
        else ""
    )
    yield Explanation(
        "same-prompt-other-text",
        f"{counted(len(pairs), 'text')} of prompts that are rendered to the same length differ, the first after "
        f"{counted(early, 'character')}: {penalty}or rounding, as other kernels and number formats choose otherwise "
        "where two tokens are almost equally likely",
        "sampling_defaults: openai in the options of SGLang rules out the first, the same dtype makes the second rare",
    )


def _goes_on(pair: Pair) -> bool:
    shorter, longer = sorted((pair.old, pair.new), key=lambda one: len(one.text))
    return FINISH in pair.differences and shorter.finish_reason == "stop" and longer.text.startswith(shorter.text)


def _rendered_alike(seen: Evidence, difference: str) -> list[Pair]:
    return [pair for pair in seen.pairs if difference in pair.differences and TOKENS not in pair.differences]


def _sides(seen: Evidence, chosen: Callable[[Pair], bool]) -> tuple[tuple[str, list[Reply]], ...]:
    pairs = [pair for pair in seen.pairs if chosen(pair)]
    return (("old", [pair.old for pair in pairs]), ("new", [pair.new for pair in pairs]))
