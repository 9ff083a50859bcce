"""Batched greedy answers: those of one prompt at a time, in order, counted and cut."""

import pytest

from runners.backend.generation import answer_prompts
from runners.backend.tokenizer import chat_prompt, encode

MESSAGES = ["a", "Tell me more about the cat.", "1 2 3 4 5 6 7 8 9", "the the", "in on", "x" * 40, "why?"]


def test_batched_answers_are_those_of_one_prompt_at_a_time(tiny_model):
    from mlx_lm import generate

    answers = answer_prompts(tiny_model, MESSAGES, max_tokens=12, batch=3)
    for message, answer in zip(MESSAGES, answers, strict=True):
        prompt = encode(tiny_model.tokenizer, chat_prompt(tiny_model.tokenizer, message))
        alone = generate(tiny_model.model, tiny_model.tokenizer, prompt, max_tokens=12)
        assert answer.text == alone.strip()


def test_answers_are_cut_at_the_limit_and_say_so(tiny_model):
    for answer in answer_prompts(tiny_model, MESSAGES, max_tokens=5):
        assert answer.tokens <= 5
        assert answer.complete or answer.tokens == 5
        assert answer.seconds > 0


def test_progress_counts_every_answer_once(tiny_model):
    seen = []
    answer_prompts(tiny_model, MESSAGES, max_tokens=3, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, len(MESSAGES)) for done in range(1, len(MESSAGES) + 1)]


def test_no_messages_no_answers(tiny_model):
    assert answer_prompts(tiny_model, [], max_tokens=5) == []


@pytest.mark.slow
def test_the_embedded_model_answers_a_question(smollm2):
    paris, empty = answer_prompts(smollm2, ["What is the capital of France?", ""], max_tokens=40)
    assert "Paris" in paris.text
    assert empty.tokens > 0
