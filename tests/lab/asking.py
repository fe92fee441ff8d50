"""A client that asks a service for a chat completion every 100 ms, and what it saw.

It keeps its connections open between questions, as the OpenAI client and any other with a pool does. Where one failed
it does not ask again: what a retry would hide is what is looked for here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any

import httpx

INTERVAL = 0.1  # seconds between two questions
IN_FLIGHT = 64  # questions; while so many wait for their answers no further one is asked
PATIENCE = 120  # seconds for an answer
BOUND = 1800  # seconds, after which nothing is asked any more, whoever forgot to stop it
MOMENT = 1.0  # seconds
NOTICED = 3.0  # seconds without an answer that are an outage even when nothing failed


@dataclass(frozen=True)
class Answer:
    """What came of one question.

    Args:
        start: when it was asked, seconds of a clock that only goes on.
        end: when it was answered, or failed.
        engine: `sglang` or `llamafactory`; '' where it failed.
        problem: '' where it was answered.
    """

    start: float
    end: float
    engine: str = ""
    problem: str = ""

    @property
    def good(self) -> bool:
        """True when there is a completion in it."""
        return not self.problem


@dataclass(frozen=True)
class Outage:
    """From the end of one good answer to that of the next, with the failures in between."""

    start: float
    end: float
    failed: tuple[Answer, ...]

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end - self.start


def outages(answers: Sequence[Answer]) -> list[Outage]:
    """The times without a good answer in which something failed, or that somebody would notice.

    What failed before the first good answer or after the last is in an outage as well: one that has no other beginning
    or end than that. Outages with less than `MOMENT` between them are one: answers overtake each other.
    """
    good = sorted(answer.end for answer in answers if answer.good)
    bad = sorted((answer for answer in answers if not answer.good), key=lambda answer: answer.end)
    before = [bad[0].start] if bad and (not good or bad[0].end < good[0]) else []
    behind = [bad[-1].end] if bad and (not good or bad[-1].end > good[-1]) else []
    found: list[Outage] = []
    for start, end in pairwise([*before, *good, *behind]):
        failed = tuple(answer for answer in bad if start <= answer.end < end or [answer.end] == [end] == behind)
        if not failed and end - start <= NOTICED:
            continue
        if found and start - found[-1].end < MOMENT:
            start, failed = found[-1].start, found.pop().failed + failed
        found.append(Outage(start, end, failed))
    return found


def engine_of(completion: Mapping[str, Any]) -> str:
    """Which engine wrote a completion: SGLang adds `matched_stop` to every choice.

    Raises:
        KeyError: it is no completion.
    """
    return "sglang" if "matched_stop" in completion["choices"][0] else "llamafactory"


class Asking:
    """Asks from the beginning of a `with` block to its end.

    Args:
        url: of the service, without `/v1`.
        model: the name to ask for.
    """

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model
        self.answers: list[Answer] = []
        self._stopped = threading.Event()
        self._free = threading.Semaphore(IN_FLIGHT)
        self._client = httpx.Client(
            timeout=PATIENCE, trust_env=False, limits=httpx.Limits(max_connections=IN_FLIGHT, keepalive_expiry=5)
        )
        self._pool = ThreadPoolExecutor(IN_FLIGHT)
        self._clock = threading.Thread(target=self._ask_on, daemon=True)

    def __enter__(self) -> Asking:
        self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask no more, and wait for the answers that are due."""
        self._stopped.set()
        self._clock.join()
        self._pool.shutdown()
        self._client.close()

    def good_since(self, moment: float, engine: str) -> bool:
        """Whether an engine has answered a question that was asked after a moment."""
        return any(answer.start >= moment and answer.engine == engine for answer in list(self.answers))

    def outages(self) -> list[Outage]:
        """What was seen so far."""
        return outages(list(self.answers))

    def _ask_on(self) -> None:
        begin = time.monotonic()
        number = 0
        while not self._stopped.wait(max(0.0, begin + number * INTERVAL - time.monotonic())):
            number += 1
            if time.monotonic() - begin > BOUND:
                return
            if self._free.acquire(blocking=False):
                self._pool.submit(self._ask)

    def _ask(self) -> None:
        start = time.monotonic()
        engine, problem = "", ""
        try:
            engine = chat(self._client, self.url, self.model)
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            problem = f"{type(error).__name__}: {error}"
        finally:
            self._free.release()
        self.answers.append(Answer(start, time.monotonic(), engine, problem))


def chat(client: httpx.Client, url: str, model: str) -> str:
    """Ask once.

    Returns:
        The engine that answered.
    Raises:
        httpx.HTTPError, ValueError, KeyError, IndexError, TypeError: that was no completion.
    """
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 2}
    answer = client.post(f"{url}/v1/chat/completions", json=body).raise_for_status()
    return engine_of(answer.json())
