#!/usr/bin/env bash
# statsmodels 0.15.0: a NaN among p values gives a rejection without a p (fdr_bh), or is charged as a test (holm).
#
# A test that could not be made (a group of constants, a single value) often leaves NaN in a column of p values. One would
# expect it to be passed over, or refused. `multipletests` with fdr_bh returns NaN for *every* adjusted p and still
# rejects the first; with holm the NaN is counted among the tests, so that the others are corrected for one too many.
#
# Output seen (statsmodels 0.15.0), p = 0.01, 0.2, NaN, 0.04:
#   fdr_bh, with NaN    rejected [True, False, False, False]  adjusted [nan, nan, nan, nan]
#   fdr_bh, without     rejected [True, False, False]  adjusted [0.03, 0.2, 0.06]
#   holm, with NaN      rejected [True, False, False, False]  adjusted [0.04, 0.4, nan, 0.12]
#   holm, without       rejected [True, False, False]  adjusted [0.03, 0.2, 0.08]
#
# rhodb: corrections count exactly the tests that have a p; NaN is refused (tests/analysis/test_not_finite.py).
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet statsmodels==0.15.0 2>/dev/null
"$place/venv/bin/python" - <<'PY'
import numpy as np
from statsmodels.stats.multitest import multipletests

p = [0.01, 0.2, float("nan"), 0.04]
found = {}
for method in ("fdr_bh", "holm"):
    for name, values in (("with NaN", p), ("without", [x for x in p if x == x])):
        rejected, adjusted = multipletests(values, 0.05, method)[:2]
        found[method, name] = rejected, adjusted
        plain = [round(float(x), 4) for x in adjusted]
        print(f"{method + ', ' + name:<19} rejected {rejected.tolist()}  adjusted {plain}")

rejected, adjusted = found["fdr_bh", "with NaN"]
assert rejected.tolist() == [True, False, False, False] and np.isnan(adjusted).all()
rejected, adjusted = found["holm", "with NaN"]
assert np.allclose(adjusted[[0, 1, 3]], [0.04, 0.4, 0.12]) and np.isnan(adjusted[2])
assert np.allclose(found["holm", "without"][1], [0.03, 0.2, 0.08])
PY
