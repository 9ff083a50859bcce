"""Teacher-forced cross-entropy of texts and pairs of texts, in as few operations as the device allows."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from rhodb.errors import InputError
from runners.backend.fastmath import fast_math
from runners.backend.models import LoadedModel
from runners.backend.passes import Losses, Progress, plan_batches, text_losses
from runners.backend.proof import proven
from runners.backend.rows import Side, truncate, truncate_pair
from runners.backend.tokenizer import Encoded, encode, encode_with_offsets


@dataclass(frozen=True, kw_only=True)
class PairText:
    """A pair to score: two whole texts, and the prompt that both begin with, if any."""

    prompt: str | None
    positive: str
    negative: str


@dataclass(frozen=True, kw_only=True)
class SideScore:
    """Cross-entropy of one text."""

    tokens: int
    """Scored tokens: all but the first."""
    ce: float
    """Mean over the scored tokens, nats/token."""
    answer_tokens: int | None
    """Scored tokens that reach beyond the prompt; None without a prompt."""
    answer_ce: float | None
    truncated: bool


@dataclass(frozen=True, kw_only=True)
class PairScore:
    positive: SideScore
    negative: SideScore


def score_pairs(
    loaded: LoadedModel,
    pairs: Sequence[PairText],
    *,
    max_tokens: int = 256,
    on_progress: Progress | None = None,
) -> list[PairScore]:
    """Score both texts of each pair, in the order given.

    What the two texts of a pair have in common is computed once. Equal to `score_plain` up to rounding. Texts
    of more than `max_tokens` tokens are cut (see `truncate_pair`). Raises InputError for a text without a scored
    token, an empty answer, or a text that does not begin with its prompt; the message names the pair's index.
    """
    sides = pair_sides(loaded, pairs, max_tokens)
    scores = _score(loaded, sides, paired=True, max_tokens=max_tokens, on_progress=on_progress)
    return in_pairs(scores)


def score_texts(
    loaded: LoadedModel,
    texts: Sequence[str],
    *,
    max_tokens: int = 256,
    on_progress: Progress | None = None,
) -> list[SideScore]:
    """Score texts one by one in meaning, in batches in fact. Raises InputError naming a text by its index."""
    encoded = encode_with_offsets(loaded.tokenizer, list(texts))
    sides = [
        truncate(_whole_side(None, text, tokens, f"text {index} {text[:40]!r}"), max_tokens)
        for index, (text, tokens) in enumerate(zip(texts, encoded, strict=True))
    ]
    return _score(loaded, sides, paired=False, max_tokens=max_tokens, on_progress=on_progress)


def score_plain(loaded: LoadedModel, pairs: Sequence[PairText], *, max_tokens: int = 256) -> list[PairScore]:
    """The reference: one text a forward pass through the model as mlx_lm built it, nothing shared or replaced."""
    scores = []
    for side in pair_sides(loaded, pairs, max_tokens):
        ids = mx.array(side.ids)
        logits = loaded.model(ids[None, :-1])[0].astype(mx.float32)
        chosen = mx.take_along_axis(logits, ids[1:, None], axis=-1)[:, 0]
        scores.append(_side_score(side, np.array(mx.logsumexp(logits, axis=-1) - chosen)))
    return in_pairs(scores)


def pair_sides(loaded: LoadedModel, pairs: Sequence[PairText], max_tokens: int) -> list[Side]:
    """The tokens of positive and negative texts in turn, cut to `max_tokens`. Raises InputError as `score_pairs`."""
    if max_tokens < 2:
        raise InputError(f"max_tokens must be at least 2, got {max_tokens}")
    encoded = encode_with_offsets(loaded.tokenizer, [text for p in pairs for text in (p.positive, p.negative)])
    sides: list[Side] = []
    for index, pair in enumerate(pairs):
        positive, negative = (
            _whole_side(pair.prompt, text, tokens, f"pair {index}, {name} text {text[:40]!r}")
            for name, text, tokens in (
                ("positive", pair.positive, encoded[2 * index]),
                ("negative", pair.negative, encoded[2 * index + 1]),
            )
        )
        fixed = sum(end == 0 for end in encoded[2 * index].ends[:1])  # a BOS in front covers no character
        sides += truncate_pair(positive, negative, max_tokens, fixed=fixed)
    return sides


def _whole_side(prompt: str | None, text: str, tokens: Encoded, where: str) -> Side:
    if len(tokens.ids) < 2:
        raise InputError(f"{where} has {len(tokens.ids)} tokens; at least 2 are needed to score one")
    return Side(ids=tokens.ids, answer_from=_answer_start(prompt, text, tokens.ends, where) if prompt else None)


def _answer_start(prompt: str, text: str, ends: tuple[int, ...], where: str) -> int:
    """Index of the first token that reaches beyond the prompt (at least 1: the first token is never scored)."""
    if not text.startswith(prompt):
        raise InputError(f"{where} does not begin with its prompt {prompt[:40]!r}")
    start = next((index for index, end in enumerate(ends) if end > len(prompt)), None)
    if start is None:
        raise InputError(f"{where} has no answer after its prompt; give the answer at least one character")
    return max(start, 1)


def _score(
    loaded: LoadedModel, sides: list[Side], *, paired: bool, max_tokens: int, on_progress: Progress | None
) -> list[SideScore]:
    """Plan rows and batches, run them, and put the terms back in the order of the sides."""
    if not sides:
        return []
    with proven(loaded, sides, max_tokens) as forward:
        batches = plan_batches(sides, paired=paired and forward.trees)
        losses = text_losses(forward, batches, len(sides), on_progress)
    return side_scores(sides, losses)


def side_scores(sides: Sequence[Side], losses: Sequence[Losses]) -> list[SideScore]:
    """Scores of texts from the cross-entropies of their tokens."""
    return [_side_score(side, own) for side, own in zip(sides, losses, strict=True)]


def _side_score(side: Side, losses: Losses) -> SideScore:
    """Means over a text's scored tokens; token t of the text is losses[t - 1]."""
    answer = None if side.answer_from is None else losses[side.answer_from - 1 :].astype(np.float64)
    return SideScore(
        tokens=len(losses),
        ce=float(losses.mean(dtype=np.float64)),
        answer_tokens=None if answer is None else len(answer),
        answer_ce=None if answer is None else float(answer.mean()),
        truncated=side.truncated,
    )


def in_pairs(scores: Sequence[SideScore]) -> list[PairScore]:
    """Scores of positive and negative texts in turn, as pairs."""
    return [
        PairScore(positive=positive, negative=negative)
        for positive, negative in zip(scores[::2], scores[1::2], strict=True)
    ]


def generate_greedy(loaded: LoadedModel, prompts: Sequence[str], max_tokens: int) -> list[str]:
    """The most probable continuation of each prompt as it stands (see `tokenizer.chat_prompt` for chat models)."""
    from mlx_lm import batch_generate

    if not prompts:
        return []
    ids = [encode(loaded.tokenizer, prompt) for prompt in prompts]
    with fast_math(loaded.model):
        response = batch_generate(loaded.model, loaded.tokenizer, ids, max_tokens=max_tokens)
    return [str(text) for text in response.texts]
