"""A gentle fine-tune of a model whose bottom layers and embeddings stay as they are."""

from collections.abc import Callable, Mapping, Sequence

import mlx.core as mx
from mlx_lm.tuner.utils import remove_lora_layers

from rhodb.errors import InputError
from rhodb.records import TrainStepRow
from runners.backend.lora import install_lora, remove_lora
from runners.backend.models import LoadedModel
from runners.backend.scoring import PairText
from runners.backend.training import TrainResult, TrainSpec, _check, _Run
from runners.seeds import MLX, SeedStreams


def n_frozen(n_layers: int, share: float) -> int:
    """Layers that the bottom `share` of a model amounts to, rounded."""
    if not 0 <= share <= 1:
        raise InputError(f"a freeze ratio must be in [0, 1], got {share:g}")
    return round(share * n_layers)


def train_above(
    loaded: LoadedModel,
    texts: Sequence[str],
    pools: Mapping[str, Sequence[PairText]],
    spec: TrainSpec,
    streams: SeedStreams,
    *,
    frozen: int,
    on_step: Callable[[TrainStepRow], None] | None = None,
) -> TrainResult:
    """`training.train` with adapters in the layers from `frozen` on only; the embeddings are never trained.

    The adapters stay on the model until `remove_lora`. Raises InputError where no layer is left to train.
    """
    _check(texts, pools, spec)
    layers = loaded.model.layers
    if frozen >= len(layers):
        raise InputError(f"all {len(layers)} layers are frozen: nothing is left to fine-tune; give a smaller ratio")
    install_lora(loaded, rank=spec.lora_rank, alpha=spec.lora_alpha, targets=spec.lora_targets, streams=streams)
    try:
        for layer in layers[:frozen]:
            remove_lora_layers(layer)
        mx.random.seed(streams.integer(MLX))
        return _Run(loaded, texts, pools, spec, streams).run(on_step, (), None)
    except BaseException:
        remove_lora(loaded)
        raise
