"""The MLX backend. Importing anything in it puts OpenBLAS in place before `mlx.core` is loaded."""

import os

from runners.backend.blas import load_openblas

# transformers otherwise tells every user of a tokenizer that PyTorch is missing.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
load_openblas()
