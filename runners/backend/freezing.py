"""A gentle fine-tune of a model whose bottom layers and embeddings stay as they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rhodb.errors import InputError
from rhodb.records import TrainStepRow
from runners.backend.models import LoadedModel
from runners.backend.scoring import PairText
from runners.backend.training import TrainResult, TrainSpec, train
from runners.seeds import SeedStreams


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
    count = len(loaded.model.layers)
    if frozen >= count:
        raise InputError(f"all {count} layers are frozen: nothing is left to fine-tune; give a smaller ratio")
    return train(replace(loaded, frozen_layers=frozen), texts, pools, spec, streams, on_step=on_step)
