"""Tokenizers: building one in memory, and encoding texts with character offsets."""

from dataclasses import dataclass
from typing import Any

from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, TokenizerWrapper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rhodb.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A text as tokens, including a leading BOS where the tokenizer adds one by default."""

    ids: tuple[int, ...]
    ends: tuple[int, ...]
    """For each token the index after the last character that it covers (0 for BOS)."""


def build_bpe_tokenizer(
    *, tokens: list[str], merges: list[str], special: list[str], eos: str, pad: str, chat_template: str | None
) -> TokenizerWrapper:
    """A GPT-2 style byte-level BPE tokenizer that splits digits one by one, as SmolLM2's does.

    `tokens` in the order of their ids; a merge is two tokens with a space between.
    """
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    bpe = models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=pairs)
    backend = Tokenizer(bpe)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos, pad_token=pad, clean_up_tokenization_spaces=False
    )
    fast.chat_template = chat_template
    return TokenizerWrapper(fast, BPEStreamingDetokenizer)


def encode(tokenizer: TokenizerWrapper, text: str) -> list[int]:
    """Token ids of a text without special tokens."""
    return list(_backend(tokenizer).encode(text, add_special_tokens=False).ids)


def encode_with_offsets(tokenizer: TokenizerWrapper, texts: list[str]) -> list[Encoded]:
    """Token ids and character ends of many texts; BOS in front where the tokenizer adds one by default."""
    bos = _default_bos(tokenizer)
    encodings = _backend(tokenizer).encode_batch(texts, add_special_tokens=False)
    return [
        Encoded(ids=(*bos, *encoding.ids), ends=(*(0 for _ in bos), *(end for _, end in encoding.offsets)))
        for encoding in encodings
    ]


def chat_prompt(tokenizer: TokenizerWrapper, message: str) -> str:
    """The text that makes a chat model answer a user's message; the message itself without a template."""
    if not tokenizer.has_chat_template:
        return message
    turns = [{"role": "user", "content": message}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return str(text)


def chat_text(tokenizer: TokenizerWrapper, message: str, answer: str) -> str:
    """A message and its answer as a chat model was trained to see them; without a template, plain text and its end."""
    if not tokenizer.has_chat_template:
        return f"{message}\n\n{answer}{tokenizer.eos_token or ''}"
    turns = [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False))


def _default_bos(tokenizer: TokenizerWrapper) -> tuple[int, ...]:
    """(BOS,) if encoding with special tokens puts it in front, else ()."""
    ids = _backend(tokenizer).encode("a", add_special_tokens=True).ids
    bos = tokenizer.bos_token_id
    return (bos,) if bos is not None and ids and ids[0] == bos else ()


def _backend(tokenizer: TokenizerWrapper) -> Any:
    """The Rust tokenizer behind a wrapper: the only kind that knows character offsets."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise InputError("the model's tokenizer has no fast form (tokenizer.json); convert the model with one")
    return backend
