"""Greedy answers to many prompts at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import mlx.core as mx
from mlx_lm.generate import BatchGenerator

from runners.backend.fastmath import fast_math
from runners.backend.models import LoadedModel
from runners.backend.tokenizer import chat_prompt, encode

BATCH: Final = 16
"""Prompts answered at a time; a finished one makes room for the next."""

GENERATION_WORK: Final = 8.0
"""A token generated in a batch costs about as much as eight in a forward pass."""


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

    Messages are put through the model's chat template. Prompts of similar length are answered together.
    """
    if not messages:
        return []
    tokenizer = loaded.tokenizer
    prompts = [encode(tokenizer, chat_prompt(tokenizer, message)) for message in messages]
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
