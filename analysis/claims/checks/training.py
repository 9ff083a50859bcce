"""How the runs behind the notes were trained: hinge, pool of pairs, seeds, split, refusal probes."""

import math

import numpy as np

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Challenge, Check
from analysis.stats.twoway import additive

STEP = 1e-6


def hinge_gradient(separation: float, gamma: float) -> float:
    """Numerical derivative of max(0, CE(x+) - CE(x-) + γ) by CE(x+), at CE(x-) - CE(x+) = separation."""

    def loss(shift: float) -> float:
        return max(0.0, -separation + shift + gamma)

    return (loss(STEP) - loss(-STEP)) / (2 * STEP)


def hinge(inputs: Inputs, claim: Claim) -> Check:
    """Gradient at `separation` (nats/token, > 0: the order is right) with margin `gamma`."""
    separation, gamma = params.number(claim, "separation"), params.number(claim, "gamma")
    default = inputs.value("operating/gamma")
    value = hinge_gradient(separation, gamma)
    none, margin = hinge_gradient(separation, 0.0), hinge_gradient(separation, default)
    pushes = "it is the margin that pushes on" if margin > none else "neither pushes"
    return Check(
        value=value, method="central difference of the printed loss", inputs=("operating/gamma",),
        numbers={"gradient at γ 0": none, f"gradient at γ {default:g}": margin, "separation": separation},
        remarks=(
            f"With the order right by {separation:g} the loss has gradient {none:g} at γ 0 and "
            f"{margin:g} at γ {default:g}: "
            f"{pushes}.",
        ),
    )  # fmt: skip


def hinge_end(inputs: Inputs, claim: Claim) -> Check:
    """The smallest separation, over a fine grid, at which the gradient is zero."""
    gamma = inputs.value("operating/gamma")
    grid = np.linspace(-0.5, 0.5, 1001)
    silent = [float(x) for x in grid if hinge_gradient(float(x), gamma) == 0]
    return Check(
        value=min(silent) - 0.001 if silent else None, low=min(silent) - 0.001, high=min(silent),
        method="central differences on a grid of 0.001 nats/token", numbers={"margin": gamma},
        inputs=("operating/gamma",),
    )  # fmt: skip


def pool_share(inputs: Inputs, claim: Claim) -> Check:
    """Share of `behavior` in the pool that pairs are drawn from."""
    pool, behavior = inputs.below("pool/pairs/"), params.text(claim, "behavior")
    inputs.figure(f"pool/pairs/{behavior}")
    total = sum(pool.values())
    shares = {name: 100 * count / total for name, count in pool.items()}
    listed = ", ".join(f"{name} {share:.1f} %" for name, share in sorted(shares.items(), key=lambda item: -item[1]))
    return Check(
        value=shares[behavior], numbers={**shares, "pairs": total},
        remarks=(f"Uniform draws from one pool of {total:g} pairs: {listed}.",),
        inputs=tuple(f"pool/pairs/{name}" for name in pool), method="pairs of the behavior over all pairs of the pool",
    )  # fmt: skip


def one_each(inputs: Inputs, claim: Claim) -> Check:
    """Probability that as many draws as behaviors, without replacement, give one of each."""
    pool = inputs.below("pool/pairs/")
    if not pool:
        inputs.figure("pool/pairs/factual")
    total = sum(pool.values())
    p = math.prod(pool.values()) / math.comb(int(total), len(pool))
    return Check(
        value=p, numbers={f"pairs of {name}": count for name, count in pool.items()},
        remarks=(f"Only {100 * p:.1f} % of steps see one pair of each behavior.",),
        inputs=tuple(f"pool/pairs/{name}" for name in pool), method="product of the counts over C(pool, draws)",
    )  # fmt: skip


def largest_score(inputs: Inputs, claim: Claim) -> Check:
    """Largest |baseline + Δ| over all cells of the tables; a correlation would stay within 1."""
    scores = {}
    keys = []
    for key, figure in inputs.figures.items():
        parts = key.split("/")
        place = parts[4] if parts[0] == "arm" and parts[-1] == "mean" else parts[1] if parts[0] == "extreme" else None
        if place is not None and f"baseline/{place}" in inputs.figures:
            scores[key] = inputs.value(f"baseline/{place}") + figure.value
            keys.append(key)
    worst = max(scores, key=lambda name: abs(scores[name]))
    above = sum(abs(score) > 1 for score in scores.values())
    audit = {name: value for name, value in inputs.below("audit/").items() if f"baseline/{name}" in inputs.figures}
    remarks = [f"{above} of {len(scores)} scores exceed 1, the largest is {scores[worst]:.3f} ({worst})."]
    if audit:
        rows = ", ".join(
            f"{name} {value:g} against {inputs.value(f'baseline/{name}'):g}" for name, value in audit.items()
        )
        remarks.append(f"The origin's own audit of the untouched model has other numbers: {rows}.")
    return Check(
        value=abs(scores[worst]), numbers={"scores above 1": float(above)}, remarks=tuple(remarks), inputs=(worst,),
        method="baseline plus Δ",
    )  # fmt: skip


def contrastive_texts(inputs: Inputs, claim: Claim) -> Check:
    """Texts with a cross-entropy loss in the contrastive-only arm, and its optimizer steps against the full arm's."""
    texts = {arm: inputs.value(f"training/texts/{arm}") for arm in ("contrastive-only", "full")}
    batch, accumulation = inputs.value("training/batch"), inputs.value("training/accumulation")
    steps = {arm: math.ceil(count / batch / accumulation) for arm, count in texts.items()}
    return Check(
        value=texts["contrastive-only"],
        numbers={"steps, contrastive-only": float(steps["contrastive-only"]), "steps, full": float(steps["full"])},
        remarks=(
            f"Contrastive-only has a cross-entropy loss on {texts['contrastive-only']:g} probe texts, and takes "
            f"{steps['contrastive-only']} optimizer steps where the full method takes {steps['full']}.",
        ),
        inputs=("training/texts/contrastive-only", "training/texts/full", "training/batch", "training/accumulation"),
        method="texts over batch and accumulation",
    )  # fmt: skip


def seed_controls_run(inputs: Inputs, claim: Claim) -> Challenge:
    """The same seeds and settings, published twice, should give the same mean; seeds should explain some variance."""
    once, again = inputs.arm("dose", 0.1, 0.0, "factual"), inputs.arm("pattern3", 0.1, 0.0, "factual")
    gap = abs(once.mean - again.mean)
    table = np.array([list((arm.values or {}).values()) for arm in inputs.doses("pattern3", "factual")]).T
    fit = additive(table)
    seeds, doses = table.shape
    mean_square = doses * float(table.mean(axis=1).var(ddof=1))
    residual = fit.ss / fit.df
    f, icc = mean_square / residual, (mean_square - residual) / (mean_square + (doses - 1) * residual)
    from scipy import special

    p = float(special.fdtrc(seeds - 1, fit.df, f))
    return Challenge(
        fails=gap > 0.001 and p > 0.05,
        text=(
            f"The same {seeds} seeds at λ 0 are printed with factual means {once.mean:.3f} and {again.mean:.4f}, and "
            f"over the doses a seed explains nothing (F {f:.2f}, p {p:.2f}, ICC {icc:.3f}): the seed does not "
            "determine the run, so runs are replicates, but not paired by seed."
        ),
        numbers={"difference of the two means": gap, "F of seeds": f, "p of seeds": p, "ICC": icc},
        inputs=(*once.inputs, *again.inputs),
    )


def held_out(inputs: Inputs, claim: Claim) -> Challenge:
    """Share of evaluation pairs that are also in the contrastive training pool."""
    pool = sum(inputs.below("pool/pairs/").values())
    evaluated = sum(inputs.below("pool/evaluated_in_training/").values())
    inputs.figure("pool/evaluated_in_training/factual")
    share = evaluated / pool
    return Challenge(
        fails=share > 0,
        text=f"{evaluated:g} of {pool:g} evaluation pairs ({100 * share:.0f} %) are trained on: nothing is held out.",
        numbers={"share of evaluation pairs in training": share},
        inputs=tuple(key for key in inputs.figures if key.startswith("pool/")),
    )


def refusal_metric(inputs: Inputs, claim: Claim) -> Challenge:
    """How many refusal probes hold a refusal on either side."""
    held, count = inputs.figure("probes/refusal/texts_with_refusal"), inputs.figure("probes/refusal/texts")
    share = held.value / count.value
    return Challenge(
        fails=share < 0.5,
        text=(
            f"{held.value:g} of the {count.value:g} texts of the refusal probes hold a refusal: they are answered "
            "benign and answered harmful requests, so that the score never sees a refusal."
        ),
        numbers={"share of texts with a refusal": share},
        inputs=(held.key, count.key),
    )
