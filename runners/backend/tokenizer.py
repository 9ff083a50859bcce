"""Tokenizers: building one in memory, and encoding texts with character offsets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, TokenizerWrapper
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rhodb.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A text as tokens, including a leading BOS where the tokenizer adds one by default."""

    ids: tuple[int, ...]
    ends: tuple[int, ...]
    """For each token the index after the last character that it covers (0 for BOS)."""


_DIGITS: Final = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
_LLAMA3: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    parts = [
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    return pre_tokenizers.Sequence(parts)


PRE_TOKENIZERS: Final[Mapping[str, pre_tokenizers.PreTokenizer]] = {
    "smollm": _DIGITS,
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "qwen2": _split(_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")),
    "llama-bpe": _split(_LLAMA3),
}
"""How a text is cut before merging, by GGUF's name of it."""


def build_bpe_tokenizer(
    *,
    tokens: list[str],
    merges: list[str],
    special: list[str],
    eos: str,
    pad: str,
    chat_template: str | None,
    added: Sequence[str] = (),
    bos: str | None = None,
    pre: str = "smollm",
) -> TokenizerWrapper:
    """A byte-level BPE tokenizer.

    `tokens` in the order of their ids; a merge is two tokens with a space between. `special` tokens are found in a text
    before anything else, and so are `added` ones, which are not special. `bos` is put in front of texts. `pre`: one of
    PRE_TOKENIZERS.
    """
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=pre == "llama-bpe"))
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = PRE_TOKENIZERS[pre]
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    if bos is not None:
        template = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])])
        backend.post_processor = template
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos, pad_token=pad, bos_token=bos, clean_up_tokenization_spaces=False
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
