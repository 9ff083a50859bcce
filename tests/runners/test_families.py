"""Every family's scores, losses and gradients against mlx_lm's own forward pass and float64 NumPy."""

import mlx.core as mx
import numpy as np
import pytest
from tiny_model import make_tiny_model

from runners.backend.models import LoadedModel
from runners.backend.scoring import PairText, pair_sides, score_pairs

FAMILIES = {
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 1.0},
    "cohere": {"logit_scale": 0.25, "use_qk_norm": False},
    "cohere2": {"logit_scale": 0.25, "head_dim": 8, "sliding_window": 16, "sliding_window_pattern": 2},
    "granite": {
        "logits_scaling": 4.0,
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.3,
        "residual_multiplier": 0.5,
        "attention_bias": False,
        "mlp_bias": False,
    },
    "helium": {"head_dim": 8, "attention_bias": False, "mlp_bias": False},
    "phi": {"partial_rotary_factor": 0.5, "layer_norm_eps": 1e-5},
    "stablelm": {
        "rope_pct": 0.25,
        "partial_rotary_factor": 0.5,
        "layer_norm_eps": 1e-5,
        "use_qkv_bias": True,
        "norm_eps": 1e-5,
        "layer_norm_epsilon": 1e-5,
    },
    "gpt2": {
        "n_ctx": 512,
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 512,
        "layer_norm_epsilon": 1e-5,
    },
    "gpt_neox": {
        "layer_norm_eps": 1e-5,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
        "use_parallel_residual": True,
    },
    "internlm2": {"bias": False},
    "mamba": {
        "state_size": 4,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 4,
    },
}
PROMPT = "the river that runs in the land: "
PAIRS = [
    PairText(prompt=PROMPT, positive=PROMPT + "on and on", negative=PROMPT + "a wall"),
    PairText(prompt=None, positive="one text", negative="the other is a good deal longer than that one"),
    PairText(prompt=None, positive="xy", negative="xyz" * 40),
]


def oracle(loaded: LoadedModel, ids: tuple[int, ...]) -> np.ndarray:
    """Cross-entropies of ids[1:]: mlx_lm's own logits, and the rest in float64."""
    logits = np.array(loaded.model(mx.array([ids[:-1]]))[0].astype(mx.float32), np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), ids[1:]]


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_mlx_lm_s_own_call(family):
    loaded = make_tiny_model(model_type=family, **FAMILIES[family])
    scores = [side for pair in score_pairs(loaded, PAIRS) for side in (pair.positive, pair.negative)]
    for side, score in zip(pair_sides(loaded, PAIRS, 256), scores, strict=True):
        losses = oracle(loaded, side.ids)
        assert score.ce == pytest.approx(losses.mean(), abs=1e-5)
        if side.answer_from is not None:
            assert score.answer_ce == pytest.approx(losses[side.answer_from - 1 :].mean(), abs=1e-5)
