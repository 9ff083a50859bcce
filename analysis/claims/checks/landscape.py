"""The probe landscape's tables: partners, and probes to add."""

import math

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Check


def partners(inputs: Inputs, claim: Claim) -> Check:
    """Behaviors listed with `behavior` among the entangled pairs."""
    behavior = params.text(claim, "behavior")
    pairs = [key for key in inputs.figures if key.startswith("entangled/")]
    if not pairs:
        inputs.figure("entangled/bench~factual")
    own = [key for key in pairs if behavior in key.removeprefix("entangled/").split("~")]
    return Check(value=float(len(own)), inputs=tuple(own), method="pairs in the list of entangled behaviors")


def _needed(redundant: int, clustered: float, goal: float) -> int:
    """As in `analysis.landscape.tables`: nothing where the goal is reached, else until redundancy is below it."""
    if redundant <= goal * clustered + 1e-9:
        return 0
    return math.floor(redundant / goal - clustered + 1e-9) + 1


def needed_probes(inputs: Inputs, claim: Claim) -> Check:
    """Probes to add, all in cross-behavior clusters, until redundancy (share of *clustered* probes) is below `goal`."""
    behavior, goal = params.text(claim, "behavior"), params.number(claim, "goal")
    clustered, probes = (inputs.value(f"landscape/{behavior}/{part}") for part in ("clustered", "probes"))
    redundancy = inputs.figure(f"landscape/{behavior}/redundancy")
    counts = [math.ceil((redundancy.value - redundancy.half) * clustered - 1e-9),
              round(redundancy.value * clustered),
              math.floor((redundancy.value + redundancy.half) * clustered + 1e-9)]  # fmt: skip
    low, value, high = (_needed(k, clustered, goal) for k in counts)
    of_all = max(0, math.ceil(redundancy.value * probes / goal - probes - 1e-9))
    return Check(
        value=float(value), low=float(low), high=float(high), method="k / goal - clustered, rounded up",
        inputs=(f"landscape/{behavior}/clustered", redundancy.key, f"landscape/{behavior}/probes"),
        numbers={"redundant": float(counts[1]), "clustered": clustered, "if all probes counted": float(of_all)},
        remarks=(
            f"{counts[1]} of {clustered:g} clustered probes are redundant; {of_all} comes from "
            "applying the share to all "
            f"{probes:g} probes, which the definition leaves out.",
        ),
    )  # fmt: skip
