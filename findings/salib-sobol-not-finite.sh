#!/usr/bin/env bash
# SALib 1.6.0: one output that is not finite turns every Sobol index into 0 with a confidence of 0.
#
# The model is Y = X1 + X2 / 2 with two uniform inputs, whose first-order indices are 0.8 and 0.2 (variances 1 : 1/4).
# With one NaN among the 4,096 outputs `sobol.analyze` raises nothing and warns of nothing about it; it returns S1 = ST
# = [0, 0] and S1_conf = ST_conf = [0, 0]: "no input matters, and that is certain". A failed evaluation of a model is
# commonly stored as NaN, and one would expect NaN indices or an error.
#
# Output seen (SALib 1.6.0, NumPy 2.4.6):
#   whole: S1 [0.8 0.2]
#   one NaN: S1 [0. 0.] S1_conf [0. 0.] ST [0. 0.] ST_conf [0. 0.]
#   warnings: []
#
# rhodb: `analysis.stats.results.finite` refuses such outputs before SALib sees them (tests/analysis/test_not_finite.py).
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet SALib==1.6.0 numpy==2.4.6 2>/dev/null
"$place/venv/bin/python" - <<'PY'
import warnings

import numpy as np
from SALib.analyze import sobol
from SALib.sample import sobol as sampler

problem = {"num_vars": 2, "names": ["x1", "x2"], "bounds": [[0, 1], [0, 1]]}
rows = sampler.sample(problem, 1024, calc_second_order=False, seed=1)
y = rows[:, 0] + rows[:, 1] / 2
whole = sobol.analyze(problem, y, calc_second_order=False, seed=1)
print("whole: S1", np.round(whole["S1"], 1))
assert np.allclose(whole["S1"], [0.8, 0.2], atol=0.02)

y[7] = np.nan
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    found = sobol.analyze(problem, y, calc_second_order=False, seed=1)
print("one NaN:", *(f"{key} {np.asarray(found[key])}" for key in ("S1", "S1_conf", "ST", "ST_conf")))
print("warnings:", [str(w.message) for w in told])
for key in ("S1", "S1_conf", "ST", "ST_conf"):
    assert np.array_equal(np.asarray(found[key]), [0.0, 0.0]), key
PY
