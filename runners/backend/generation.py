"""Greedy answers to many prompts at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import mlx.core as mx
import numpy as np
from mlx_lm.generate import BatchGenerator, generate_step

from runners.backend.anatomy import FAILURES, whole_logits
from runners.backend.device import is_cpu
from runners.backend.fastmath import fast_math
from runners.backend.models import LoadedModel
from runners.backend.proof import TOLERANCES
from runners.backend.tokenizer import chat_prompt, encode

BATCH: Final = 16
"""Prompts answered at a time; a finished one makes room for the next."""

GENERATION_WORK: Final = 8.0
"""A token generated in a batch costs about as much as eight in a forward pass."""


_TRIAL: Final = 4
"""Tokens that a way of answering is tried out on."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said to a prompt."""

    text: str
    tokens: int
    """Generated, without the one that ends the answer."""
    seconds: float
    """Its share of the time, by tokens."""
    complete: bool
    """False if it was cut at the limit."""


def answer_prompts(
    loaded: LoadedModel,
    messages: Sequence[str],
    *,
    max_tokens: int,
    on_progress: Callable[[int, int], None] | None = None,
    batch: int = BATCH,
) -> list[Answer]:
    """The most probable answer to each user message, at most `max_tokens` tokens, in the order of the messages.

    Messages are put through the model's chat template. Prompts of similar length are answered together where that
    gives the tokens that mlx_lm's whole call finds the most probable, else one by one, or without a cache.
    """
    if not messages:
        return []
    tokenizer = loaded.tokenizer
    prompts = [list(encode(tokenizer, chat_prompt(tokenizer, message))) for message in messages]
    way = _proven_way(loaded, prompts, batch)
    if way != "together":
        return _one_by_one(loaded, prompts, max_tokens, way, on_progress)
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    started = time.perf_counter()
    tokens: dict[int, list[int]] = {index: [] for index in order}
    complete: dict[int, bool] = {}
    with _generator(loaded, batch) as generator:
        uids = generator.insert([prompts[index] for index in order], [max_tokens] * len(order))
        index_of = dict(zip(uids, order, strict=True))
        while responses := generator.next_generated():
            for response in responses:
                index = index_of[response.uid]
                if response.finish_reason != "stop":
                    tokens[index].append(response.token)
                if response.finish_reason is not None:
                    complete[index] = response.finish_reason == "stop"
                    if on_progress is not None:
                        on_progress(len(complete), len(prompts))
    per_token = (time.perf_counter() - started) / max(1, sum(len(t) + 1 for t in tokens.values()))
    return [
        Answer(
            text=str(tokenizer.decode(tokens[index])).strip(),
            tokens=len(tokens[index]),
            seconds=per_token * (len(tokens[index]) + 1),
            complete=complete[index],
        )
        for index in range(len(prompts))
    ]


Way = Literal["together", "cached", "whole"]
"""All prompts in one batch; one by one with mlx_lm's cache; one by one, each token by a pass over all before it."""
_CACHED: Final[tuple[Way, ...]] = ("together", "cached")


def _proven_way(loaded: LoadedModel, prompts: Sequence[list[int]], batch: int) -> Way:
    """The fastest way whose tokens are those of mlx_lm's whole call, on the longest, the shortest and a middle
    prompt; remembered with the model."""
    known: tuple[object, Way] | None = loaded.proofs.get("generation")
    if known is None or known[0] is not loaded.model:
        by_length = sorted(prompts, key=len)
        trial = [by_length[-1], by_length[0], by_length[len(by_length) // 2]]
        known = (loaded.model, next((way for way in _CACHED if _way_is_right(loaded, trial, way, batch)), "whole"))
        loaded.proofs["generation"] = known
    return known[1]


Step = tuple[int, mx.array]
"""A generated token and the log probabilities (V,) that it was chosen by."""


def _way_is_right(loaded: LoadedModel, prompts: Sequence[list[int]], way: Way, batch: int) -> bool:
    """Whether the log probabilities of a few tokens are those of mlx_lm's whole call, but for rounding."""
    try:
        answers = _trial_together(loaded, prompts, batch) if way == "together" else _trial_alone(loaded, prompts)
    except FAILURES:
        return False
    for prompt, steps in zip(prompts, answers, strict=True):
        tokens = [token for token, _ in steps]
        logits = whole_logits(loaded.model, mx.array([prompt + tokens[:-1]]))[0, len(prompt) - 1 :]
        tolerance = TOLERANCES[logits.dtype if is_cpu() else mx.bfloat16]
        logits = logits.astype(mx.float32)
        expected = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
        found = np.array(mx.stack([logprobs for _, logprobs in steps]).astype(mx.float32))
        seen = np.isfinite(expected)
        if not (np.abs(found - expected)[seen] <= tolerance).all():
            return False
    return True


def _trial_together(loaded: LoadedModel, prompts: Sequence[list[int]], batch: int) -> list[list[Step]]:
    with _generator(loaded, batch) as generator:
        uids = generator.insert([list(prompt) for prompt in prompts], [_TRIAL] * len(prompts))
        answers: dict[int, list[Step]] = {uid: [] for uid in uids}
        while responses := generator.next_generated():
            for response in responses:
                answers[response.uid].append((response.token, response.logprobs))
    return [answers[uid] for uid in uids]


def _trial_alone(loaded: LoadedModel, prompts: Sequence[list[int]]) -> list[list[Step]]:
    steps: Any = generate_step
    return [list(steps(mx.array(prompt), loaded.model, max_tokens=_TRIAL)) for prompt in prompts]


def _one_by_one(
    loaded: LoadedModel,
    prompts: Sequence[list[int]],
    max_tokens: int,
    way: Way,
    on_progress: Callable[[int, int], None] | None,
) -> list[Answer]:
    """Answers without a batch."""
    stops = set(loaded.tokenizer.eos_token_ids)
    tokens_of = _cached_tokens if way == "cached" else _whole_tokens
    answers = []
    for number, prompt in enumerate(prompts, 1):
        started = time.perf_counter()
        tokens, complete = [], False
        for token in tokens_of(loaded, prompt, max_tokens):
            if token in stops:
                complete = True
                break
            tokens.append(token)
        text = str(loaded.tokenizer.decode(tokens)).strip()
        seconds = time.perf_counter() - started
        answers.append(Answer(text=text, tokens=len(tokens), seconds=seconds, complete=complete))
        if on_progress is not None:
            on_progress(number, len(prompts))
    return answers


def _cached_tokens(loaded: LoadedModel, prompt: list[int], max_tokens: int) -> Iterator[int]:
    """The most probable tokens after a prompt, by mlx_lm's own loop."""
    for token, _ in generate_step(mx.array(prompt), loaded.model, max_tokens=max_tokens):
        yield int(token)


def _whole_tokens(loaded: LoadedModel, prompt: list[int], max_tokens: int) -> Iterator[int]:
    """The same without a cache."""
    read = list(prompt)
    for _ in range(max_tokens):
        read.append(int(np.array(mx.argmax(whole_logits(loaded.model, mx.array([read]))[0, -1]))))
        yield read[-1]


@contextmanager
def _generator(loaded: LoadedModel, batch: int) -> Iterator[BatchGenerator]:
    """MLX-LM's batch generator on the model, with fast operations on the CPU."""
    was_training = loaded.model.training
    loaded.model.eval()
    with fast_math(loaded.model):
        generator = BatchGenerator(
            loaded.model,
            stop_tokens=[[token] for token in loaded.tokenizer.eos_token_ids],
            completion_batch_size=batch,
            prefill_batch_size=min(8, batch),
        )
        try:
            yield generator
        finally:
            generator.close()
            mx.clear_cache()
            loaded.model.train(was_training)
