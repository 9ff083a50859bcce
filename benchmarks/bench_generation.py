"""Responses per minute of batched greedy answers against `mlx_lm.generate` prompt by prompt, with the embedded model.

    python benchmarks/bench_generation.py [--rounds 2] [--single 4]

A round answers all 40 prompts of the stress test in batches and then `--single` of them, spread over the set and
others in each round, one by one, so that a busy machine slows both sides. Both stop at the quick preset's limit, and
OpenBLAS is loaded for both. CPU seconds stand beside wall seconds: on a shared machine they are the steadier measure.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

from rhodb.vocabulary import EMBEDDED_MODEL
from runners.backend.device import device_name
from runners.backend.generation import BATCH, answer_prompts
from runners.backend.models import load_model
from runners.backend.tokenizer import chat_prompt, encode
from runners.config import QUICK
from runners.stress_prompts import load_prompts

# isort: split
import mlx.core as mx
from mlx_lm import generate

LIMIT: int = QUICK["response_tokens"]


class Rate:
    """Responses, and the seconds that they took."""

    def __init__(self) -> None:
        self.responses, self.wall, self.cpu = 0, 0.0, 0.0

    def __call__(self, responses: int, action: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = action()
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        self.responses += responses
        return result

    def __str__(self) -> str:
        return (
            f"{60 * self.responses / self.wall:6.1f} responses a minute, "
            f"{60 * self.responses / self.cpu:6.1f} a CPU minute  ({self.responses} responses)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--single", type=int, default=4, help="prompts answered one by one in each round")
    arguments = parser.parse_args()
    loaded = load_model(EMBEDDED_MODEL)
    messages = [prompt.prompt for prompt in load_prompts(None)]
    prompts = [encode(loaded.tokenizer, chat_prompt(loaded.tokenizer, message)) for message in messages]

    def one(index: int) -> str:
        return generate(loaded.model, loaded.tokenizer, prompts[index], max_tokens=LIMIT).strip()

    answer_prompts(loaded, messages[:2], max_tokens=4)  # what is compiled or cached is so before the clock runs
    generate(loaded.model, loaded.tokenizer, prompts[0], max_tokens=4)
    batched, single, same, compared = Rate(), Rate(), 0, 0
    mx.reset_peak_memory()
    for number in range(arguments.rounds):
        answers = batched(len(messages), lambda: answer_prompts(loaded, messages, max_tokens=LIMIT))
        step = len(messages) // arguments.single
        chosen = [(number + step * i) % len(messages) for i in range(arguments.single)]
        texts = single(len(chosen), lambda chosen=chosen: [one(index) for index in chosen])
        same += sum(answers[index].text == text for index, text in zip(chosen, texts, strict=True))
        compared += len(chosen)
    print(f"device {device_name()}, limit {LIMIT} tokens, batches of {BATCH}, {len(messages)} prompts")
    print(f"  mlx_lm.generate, one by one  {single}")
    print(f"  rhodb, batched               {batched}")
    wall, cpu = ((batched.responses / b) / (single.responses / s) for b, s in _times(batched, single))
    print(f"  ratio                        {wall:.1f} wall, {cpu:.1f} CPU, target 4")
    print(f"  the same words               {same} of {compared} answers")
    print(f"  peak memory of MLX           {mx.get_peak_memory() / 2**30:.2f} GiB, model included")


def _times(batched: Rate, single: Rate) -> list[tuple[float, float]]:
    return [(batched.wall, single.wall), (batched.cpu, single.cpu)]


if __name__ == "__main__":
    main()
