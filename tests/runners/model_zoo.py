"""Tiny configurations of the modules of mlx_lm.models: one pool of small values, and what single modules need beside.

`from_dict` of a module's arguments takes from the pool what they name. Run as a script, this writes docs/models.md.
"""

# ruff: noqa: E501
import importlib
import pkgutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_model import TINY_CONFIG, make_tiny_model

# isort: split
import mlx_lm.models

from rhodb.errors import InputError
from runners.backend.models import LoadedModel
from runners.backend.scoring import score_texts
from runners.backend.stepper import Stepper

POOL: dict[str, Any] = TINY_CONFIG | {
    # sizes by other names
    "head_dim": 8, "num_layers": 2, "n_layers": 2, "n_layer": 2, "n_embd": 32, "n_head": 4, "n_heads": 4, "d_model": 32,
    "num_heads": 4, "num_kv_heads": 2, "n_kv_heads": 2, "hidden_dim": 64, "n_inner": 64, "n_ctx": 512, "n_positions": 512,
    "block_size": 512, "model_max_length": 512, "model_dim": 32, "ffn_hidden_size": 64, "rotary_dim": 4, "n_kv_head": 2,
    "moe_intermediate_size": 32, "shared_intermediate_size": 32, "shared_expert_intermediate_size": 32,
    "expert_ffn_hidden_size": 32, "intermediate_size_mlp": 64, "intermediate_dim": 64,
    # norms
    "norm_eps": 1e-5, "layer_norm_eps": 1e-5, "layer_norm_epsilon": 1e-5, "layernorm_epsilon": 1e-5,
    "norm_epsilon": 1e-5, "qk_norm": True, "use_qk_norm": True, "post_norm": False, "group_norm_size": 1,
    # biases, activations
    "attention_bias": False, "mlp_bias": False, "use_bias": False, "bias": False, "hidden_act": "silu", "no_bias": True,
    "conv_bias": False, "use_conv_bias": True, "mamba_proj_bias": False, "layer_norm_bias": False,
    # experts
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_topk": 2, "moe_k": 2, "n_shared_experts": 1, "num_shared_experts": 1, "num_shared_expert": 1,
    "norm_topk_prob": True, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "use_expert_bias": False, "num_dense_layers": 1,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid", "moe_layer_freq": 1, "is_moe_layer": [False, True],
    "zero_expert_num": 1, "zero_expert_type": "identity", "use_mixed_mlp_moe": False, "moe_router_enable_expert_bias": False,
    # latent attention
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "index_head_dim": 8, "index_n_heads": 2, "index_topk": 4, "attention_method": "MLA",
    "mla_scale_q_lora": True, "mla_scale_kv_lora": True,
    # windows and positions
    "sliding_window": 8, "sliding_window_size": 8, "sliding_window_pattern": 2, "partial_rotary_factor": 0.5,
    "layer_types": ["sliding_attention", "full_attention"], "rotary_emb_base": 10000, "rotary_pct": 0.5, "rope_pct": 0.5,
    "no_rope_layers": [1, 0], "rope_scaling": None, "original_max_position_embeddings": 512,
    # scales and caps
    "logits_scaling": 4.0, "attention_multiplier": 0.3, "embedding_multiplier": 3.0, "residual_multiplier": 0.5,
    "final_logit_softcapping": 2.0, "logit_scale": 0.25, "dim_model_base": 16, "scale_depth": 1.4, "scale_emb": 3.0,
    # state spaces and linear attention
    "state_size": 4, "conv_kernel": 4, "time_step_rank": 4, "time_step_limit": (0.0, 100.0), "n_groups": 2,
    "mamba_d_conv": 4, "mamba_d_state": 4, "mamba_expand": 2, "mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 4,
    "attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1, "expert_layer_period": 2, "conv_L_cache": 3,
    "block_dim": 32, "block_multiple_of": 8, "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": False,
    "layer_group_size": 2, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 32,
    "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4, "full_attention_interval": 2,
    "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1,
}  # fmt: skip

_YARN = {"type": "yarn", "factor": 2.0, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 256}
_ROPE = {"rope_theta": 10000.0, "rope_type": "default"}
_ROPE_4 = _ROPE | {"llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 16}


def _text(kind: str, **changes: Any) -> dict[str, Any]:
    """The text part of a model that also sees."""
    return {"text_config": POOL | {"model_type": kind} | changes}


OWN: dict[str, dict[str, Any]] = {
    "afm7": {"num_kv_reuse_layers": 1, "num_layers": 3},
    "baichuan_m1": {"tie_word_embeddings": False, "sliding_window_layers": [0], "conv_window": 2},
    "dbrx": {
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
    },
    "deepseek_v2": {"rope_scaling": _YARN, "topk_method": "greedy", "scoring_func": "softmax"},
    "exaone4": {"sliding_window_pattern": "LG"},
    "gemma3": _text("gemma3_text"),
    "glm_moe_dsa": {"rope_parameters": _ROPE},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "hunyuan": {"use_cla": False, "cla_share_factor": 2, "rope_scaling": {"alpha": 1000.0, "factor": 1.0, "type": "dynamic"}},
    "kimi_k25": _text("deepseek_v3"),
    "kimi_vl": _text("deepseek_v3"),
    "kimi_linear": {
        "linear_attn_config": {
            "kda_layers": [1], "full_attn_layers": [2], "num_heads": 4, "head_dim": 32, "short_conv_kernel_size": 4,
        },
    },
    "lfm2-vl": _text("lfm2"),
    "lille-130m": {"layer_norm_eps": 1e-5, "n_embd": 256},
    "llama4": _text("llama4_text", attention_chunk_size=8, interleave_moe_layer_step=2, num_experts_per_tok=1),
    "mellum": {"rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE}},
    "minicpm3": {"rope_scaling": {"short_factor": [1.0] * 4, "long_factor": [1.0] * 4,
                                  "original_max_position_embeddings": 512}},
    "ministral3": {"rope_parameters": _ROPE_4},
    "mistral3": _text("llama"),
    "mistral4": {"rope_parameters": _ROPE_4},
    "nemotron_h": {"hybrid_override_pattern": "M*-", "num_hidden_layers": 3, "layer_types": None,
                   "layers_block_type": None},
    "olmo_hybrid": {"linear_allow_neg_eigval": True, "layer_types": ["linear_attention", "full_attention"]},
    "openelm": {"num_transformer_layers": 2, "ffn_dim_divisor": 8, "num_query_heads": [4, 4], "num_kv_heads": [2, 2],
                "ffn_multipliers": [2.0, 2.0]},
    "phixtral": {"num_vocab": 264},
    "pixtral": _text("llama"),
    "plamo": {"n_shared_head": 2, "num_attention_heads": 4, "num_key_value_heads": 4},
    "qwen": {"kv_channels": 8, "num_attention_heads": 4},
    "qwen3_vl_moe": _text("qwen3_moe"),
    "recurrent_gemma": {"conv1d_width": 4, "logits_soft_cap": 2.0, "attention_window_size": 8,
                        "block_types": ["recurrent", "attention"], "_block_types": ["recurrent", "attention"]},
    "rwkv7": {"a_low_rank_dim": 8, "v_low_rank_dim": 8, "gate_low_rank_dim": 8, "decay_low_rank_dim": 8},
    "spark2_5": {"hidden_act": "gelu", "rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE}},
    "stablelm": {"use_qkv_bias": True},
    "step3p5": {"num_attention_groups": 2, "moe_top_k": 2},
}  # fmt: skip
"""Module -> what differs from the pool."""

SKIPPED: dict[str, str] = {
    "olmo": "importing it ends the process without the package ai2-olmo",
    "bitnet": "its layers are Metal kernels",
    "prism_hadamard_qwen35": "it takes one pack of weights only",
}
"""Module -> why it cannot be built here."""

UNBUILT: dict[str, str] = dict.fromkeys(
    (
        "gemma3n", "gemma4", "gemma4_text", "kimi_k3", "llama4", "mimo_v2_flash", "minimax_m3_vl", "muse_spark",
        "nemotron-nas", "phi3small",
    ),
    "no tiny configuration yet",
)  # fmt: skip
"""Left out of the table for now: the run-time comparison is what holds for them."""


def modules() -> list[str]:
    """Every module of mlx_lm.models that defines a model of its own."""
    names = sorted(m.name for m in pkgutil.iter_modules(mlx_lm.models.__path__))
    return [name for name in names if name not in SKIPPED and hasattr(_module(name), "Model")]


def _module(name: str) -> Any:
    return importlib.import_module(f"mlx_lm.models.{name}")


def config_of(name: str) -> dict[str, Any]:
    """The tiny configuration of a module."""
    return POOL | {"model_type": name} | OWN.get(name, {})


def build(module: str, **changes: object) -> LoadedModel:
    """A tiny model of random weights."""
    return make_tiny_model(**config_of(module) | changes)


def built() -> list[str]:
    """The modules of the table."""
    return [name for name in modules() if name not in UNBUILT]


TEXTS = ["the river runs", "one and one is two, and that is all that there is to say", "xyz" * 20]


@dataclass(frozen=True)
class Row:
    """How rhodb computes a family."""

    scoring: str
    training: str
    why: str


def observed(module: str) -> Row:
    """What rhodb does with a tiny model of a module."""
    loaded = build(module)
    score_texts(loaded, TEXTS)
    proof = loaded.proofs["fast_math"]
    return Row(scoring=proof.form, training=_training(loaded), why="; ".join(proof.against))


def _training(loaded: LoadedModel) -> str:
    try:
        train_layers(loaded)
    except AttributeError:
        return "refused: mlx_lm cannot freeze its weights"
    stepper = Stepper(loaded, rho_weight=0.5, margin=0.3, max_tokens=64, contrast="text")
    try:
        with stepper.ready(TEXTS):
            return "fast" if stepper.is_fast else "plain"
    except InputError:
        return "refused: MLX has no gradient of it"


def train_layers(loaded: LoadedModel) -> None:
    """Make all weights of the decoder layers trainable, and nothing else."""
    loaded.model.freeze()
    for layer in loaded.model.layers:
        layer.unfreeze()


def table() -> str:
    """docs/models.md."""
    rows = {name: observed(name) for name in built()}
    counts = {form: sum(row.scoring == form for row in rows.values()) for form in ("tree", "rows", "whole")}
    lines = [
        "# Model families",
        "",
        f"How rhodb computes the model modules of mlx_lm {version('mlx-lm')}, seen on tiny random models (float32, CPU). "
        "Written by `python tests/runners/model_zoo.py`, held to by `tests/runners/test_model_matrix.py`.",
        "",
        f"- **tree** ({counts['tree']}): the model's own body and head, pairs sharing their beginnings; fastest.",
        f"- **rows** ({counts['rows']}): the same, each text a row of its own.",
        f"- **whole** ({counts['whole']}): mlx_lm's whole call, logits of all positions; slower.",
        "",
        "A session compares its way with mlx_lm's own call on its own texts before the first number, and takes the next "
        "one where they differ; so this table is what to expect, not what is relied on.",
        "",
        "| module | scoring | training | why not faster |",
        "|---|---|---|---|",
        *(f"| {name} | {row.scoring} | {row.training} | {row.why.replace('|', '/')} |" for name, row in rows.items()),
        "",
        "Not built small here: " + "; ".join(f"{name} ({why})" for name, why in (SKIPPED | UNBUILT).items()) + ".",
    ]
    return "\n".join(lines) + "\n"


DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"


def documented() -> dict[str, Row]:
    """Module -> its row in docs/models.md."""
    cells = [line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    return {c[0]: Row(c[1], c[2], c[3].strip() if len(c) > 3 else "") for c in (r for r in cells if r[0] != "module")}


if __name__ == "__main__":
    DOCUMENT.write_text(table())
