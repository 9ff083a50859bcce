"""The sample of legacy files and its reference values, which stand beside the checkout."""

from pathlib import Path

import pytest

SHARED = next(
    (p / "shared" for p in Path(__file__).resolve().parents if (p / "shared" / "legacy_sample").exists()), None
)
needs_sample = pytest.mark.skipif(SHARED is None, reason="the sample tree is not beside this checkout")
