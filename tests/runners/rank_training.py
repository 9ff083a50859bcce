"""A script for `mlx.launch`: trains the tiny model on all ranks together; each rank writes its losses and weights."""

import json
import sys
from pathlib import Path

import runners.backend  # noqa: F401  puts OpenBLAS in place first
from runners.backend.data_parallel import launched_ranks
from runners.backend.lora import lora_weights
from runners.backend.scoring import PairText
from runners.backend.training import TrainSpec, train
from runners.seeds import SeedStreams
from tests.tiny_model import make_tiny_model  # the repository root is the working directory

TEXTS = [f"the text number {i} is here" for i in range(10)]
POOLS = {"a": [PairText(prompt=None, positive=f"{i} and 1", negative=f"{i} or 2") for i in range(6)]}

ranks = launched_ranks()
model = make_tiny_model()
spec = TrainSpec(batch_size=2, accumulation=2, lr=1e-2, pairs_per_step=2, lora_rank=4, max_tokens=32, rho_weight=0.5)
result = train(model, TEXTS, POOLS, spec, SeedStreams(3), ranks=ranks)
weights = {name: float((value**2).sum()) for name, value in lora_weights(model.model).items()}
facts = [[r.step, r.ce_loss, r.rho_loss, r.active_pairs, r.lr, r.grad_norm, r.tokens] for r in result.rows]
Path(sys.argv[1]).joinpath(f"{ranks.rank} of {ranks.size}.json").write_text(json.dumps([facts, weights]))
