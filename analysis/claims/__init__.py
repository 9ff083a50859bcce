"""The claims of a notebook, each recomputed: `verify(wh, claims=...)` gives a verdict for every one."""

from analysis.claims.claim import Claim, read_claims
from analysis.claims.outcome import KINDS, Verdict
from analysis.claims.verdict import verify

__all__ = ["KINDS", "Claim", "Verdict", "read_claims", "verify"]
