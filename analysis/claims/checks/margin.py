"""The critical margin γ*: point, Monte Carlo, sensitivity, phase diagram, all from the γ* study."""

import math

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Challenge, Check
from analysis.gamma.critical import MonteCarlo, Scenario, fieller_set, power_law
from analysis.gamma.phase import Surface, region
from analysis.stats.intervals import welch_test
from rhodb.errors import InputError

MIXED = "phase diagram"


def _printed_case(inputs: Inputs) -> Scenario:
    """The notes' arms with their errors: the first scenario of the study."""
    return inputs.gamma.inputs.scenarios[0]


def point(inputs: Inputs, claim: Claim) -> Check:
    """γ* of the line through the printed arms; beside it what the seeds give, and other shapes between the arms."""
    case, sound = _printed_case(inputs), inputs.gamma.inputs.sound
    remarks, numbers = [], {}
    shapes = [power_law(case, exponent) for exponent in (0.5, 2.0)]
    if shapes[0] is not None and shapes[1] is not None:
        numbers = {"γ* with exponent 0.5": shapes[0], "γ* with exponent 2": shapes[1]}
        remarks.append(
            f"Two margins cannot tell a line from a curve: with Δ growing as γ^0.5 or γ^2 γ* is {shapes[0]:.3f} or "
            f"{shapes[1]:.3f}."
        )
    if sound is not None:
        found = fieller_set(sound, level=0.95, welch=True)
        numbers |= {"γ* from seeds": sound.point, "low": found.low or math.nan, "high": found.high or math.nan}
        remarks.append(
            f"From seeds, with standard errors: {sound.point:.5f} [{found.low:.4f}, {found.high:.4f}] (95 %)."
        )
    return Check(
        value=case.point, method="zero of the line through both arms", inputs=case.inputs, numbers=numbers,
        remarks=tuple(remarks), reference="Fieller 1954",
    )  # fmt: skip


def monte_carlo(inputs: Inputs, claim: Claim) -> Check:
    """`statistic` of the notes' Monte Carlo, drawn again with its seed and in its order."""
    mc = inputs.gamma.monte_carlo[0]
    statistic = params.text(claim, "statistic")
    return Check(
        value=_statistic(inputs, mc, statistic), inputs=mc.case.inputs,
        numbers={"samples": float(mc.samples), "kept": float(mc.kept)},
        method=f"{statistic} of {mc.samples} draws, {mc.samples - mc.kept} outside {mc.window} dropped",
        remarks=_beside(inputs, mc, statistic),
    )  # fmt: skip


def _statistic(inputs: Inputs, mc: MonteCarlo, statistic: str) -> float:
    name, _, argument = statistic.partition(":")
    default = inputs.value("operating/gamma")
    table = {
        "mean": lambda: mc.mean,
        "median": lambda: mc.median,
        "quantile": lambda: mc.quantiles[float(argument)],
        "above": lambda: mc.shares_above[float(argument)],
        "below": lambda: 1 - mc.shares_above[float(argument)],
        "safety": lambda: default / (mc.quantiles[float(argument)] if argument else mc.median),
    }
    if name not in table:
        raise InputError(f"unknown statistic {statistic!r} of the Monte Carlo; known: {', '.join(table)}")
    try:
        return table[name]()
    except (KeyError, ValueError) as error:
        raise InputError(f"the Monte Carlo has no {statistic}: {error}") from error


def _beside(inputs: Inputs, mc: MonteCarlo, statistic: str) -> tuple[str, ...]:
    """The same from other errors: closed form for shares, and standard errors in place of SDs."""
    from analysis.gamma.critical import probability_above

    name, _, argument = statistic.partition(":")
    sound = inputs.gamma.inputs.sound
    if name in ("above", "below") and sound is not None:
        values = [probability_above(case, float(argument)) for case in (mc.case, sound)]
        values = values if name == "above" else [1 - value for value in values]
        return (f"Closed form {values[0]:.4f}; with standard errors over seeds {values[1]:.5f}.",)
    if name == "quantile":
        found = fieller_set(mc.case, level=0.95)
        return (f"Fieller's set from the same errors: [{found.low:.4f}, {found.high:.4f}].",)
    return ()


def published_sem(inputs: Inputs, claim: Claim) -> Check:
    """SD / sqrt(n) of the arm `series, gamma, weight, behavior`; the printed figure may be its SD."""
    series, gamma, weight, behavior = params.names(claim, "arm")
    arm = inputs.arm(series, float(gamma), float(weight), behavior)
    sd, se = arm.sd or 0.0, arm.se or 0.0
    return Check(
        value=se, inputs=arm.inputs, restates=arm.values is None,
        method=f"SD / sqrt({arm.n})", numbers={"SD": sd, "SEM": se, "n": float(arm.n)},
        remarks=(f"The {arm.n} seeds have SD {sd:.5f} and standard error {se:.5f}.",),
    )  # fmt: skip


def tornado_range(inputs: Inputs, claim: Claim) -> Check:
    """Range of γ* as `input` varies alone."""
    name = params.text(claim, "input")
    bar = next((bar for bar in inputs.gamma.tornado if bar.name == name), None)
    if bar is None:
        raise InputError(f"no input {name!r}; known: {', '.join(bar.name for bar in inputs.gamma.tornado)}")
    return Check(
        value=bar.range, method="5th to 95th percentile over an even grid, as in the notes",
        numbers={"share of the grid dropped": bar.discarded, "low": bar.low, "high": bar.high},
        inputs=(
            *(key for key in inputs.figures if key.startswith(f"tornado/{name}/")),
            *_printed_case(inputs).inputs,
        ),
    )  # fmt: skip


def phase_gamma(inputs: Inputs, claim: Claim) -> Check:
    """Point or end of the 95 % set of γ* from the arms behind the phase diagram: `statistic` point, low or high."""
    case = next((case for case in inputs.gamma.inputs.scenarios if case.name.startswith(MIXED)), None)
    assert case is not None, "the study has lost its phase diagram scenario"
    found = fieller_set(case, level=0.95)
    value = {"point": case.point, "low": found.low, "high": found.high}[params.text(claim, "statistic")]
    return Check(value=value, method=found.method, inputs=case.inputs, reference="Fieller 1954")


def _surface(inputs: Inputs, claim: Claim) -> Surface:
    behavior = params.text(claim, "behavior")
    found = (s for s in inputs.gamma.surfaces if s.behavior == behavior and s.construction == "stepwise")
    surface = next(found, None)
    if surface is None:
        raise InputError(f"no surface of {behavior}")
    return surface


def phase_surface(inputs: Inputs, claim: Claim) -> Check:
    """`statistic` of the surface: lowest, at:γ:λ, or critical:λ (γ at which it changes sign)."""
    surface = _surface(inputs, claim)
    name, *arguments = params.text(claim, "statistic").split(":")
    extent = inputs.gamma.inputs.extent
    whole = region(surface, gamma_high=extent[0], weight_high=extent[1], points=inputs.gamma.inputs.points)
    if name == "lowest":
        value = whole.lowest
    elif name == "at" and len(arguments) == 2:
        value = float(surface.at(float(arguments[0]), float(arguments[1])))
    elif name == "critical" and len(arguments) == 1:
        value = surface.critical_point(float(arguments[0]))
    else:
        raise InputError(f"unknown statistic {params.text(claim, 'statistic')!r} of a surface")
    return Check(
        value=value, method="the notes' surface: line over λ plus the margin's effect scaled with λ",
        inputs=tuple(key for cell in surface.cells for key in cell.inputs),
        numbers={"lowest": whole.lowest, "share negative": whole.share_negative},
        remarks=(
            f"The surface is negative on {100 * whole.share_negative:.0f} % of the rectangle; its lowest point is "
            f"{whole.lowest:.3f} at γ {whole.lowest_at[0]:.2g}, λ {whole.lowest_at[1]:.2g}.",
        ),
    )  # fmt: skip


def score_without_margin(inputs: Inputs, claim: Claim) -> Check:
    """Baseline plus Δ at γ 0: its sign says whether the score itself was inverted."""
    gamma = inputs.gamma.inputs
    behavior = params.text(claim, "behavior")
    arm = inputs.arm("no-margin", 0.0, gamma.operating.weight, behavior)
    plain = inputs.arm("sweep", gamma.operating.gamma, 0.0, behavior)
    test = welch_test(arm.sample(), plain.sample())
    p = 1.0 if test.p is None else test.p
    score = inputs.value(f"baseline/{behavior}") + arm.mean
    return Check(
        value=score, inputs=(f"baseline/{behavior}", *arm.inputs, *plain.inputs), method="baseline plus mean Δ",
        numbers={"Δ at γ 0": arm.mean, "Δ without contrastive loss": plain.mean,
                 "difference": arm.mean - plain.mean, "Welch p": p},
        remarks=(
            f"The score stays {'positive' if score > 0 else 'negative'}: {score:+.4f}. Δ at γ 0 ({arm.mean:+.4f}) is "
            f"{abs(arm.mean - plain.mean):.4f} from that without any contrastive loss "
            f"({plain.mean:+.4f}), Welch p {p:.2f}.",
        ),
    )  # fmt: skip


def unused_inputs(inputs: Inputs, claim: Claim) -> Challenge:
    """Total Sobol indices of everything that was sampled."""
    sobol = inputs.gamma.sobol[0]
    shares = dict(zip(sobol.inputs, sobol.total, strict=True))
    idle = [name for name, share in shares.items() if share < 1e-6]
    listed = ", ".join(f"{name} {share:.3f}" for name, share in zip(sobol.inputs, sobol.first, strict=True))
    return Challenge(
        fails=bool(idle),
        text=f"Of the varied inputs {len(idle)} ({', '.join(idle)}) do not move γ* at all (Sobol S1: {listed}).",
        numbers={f"S1 of {name}": share for name, share in zip(sobol.inputs, sobol.first, strict=True)},
    )


def one_scale(inputs: Inputs, claim: Claim) -> Challenge:
    """Are the ranges of the tornado alike in units of each input's SD, and was nothing dropped?"""
    case, ranges = _printed_case(inputs), inputs.gamma.inputs.ranges
    assert ranges is not None, "the tornado's ranges are published"
    reach = {"d0": ranges.d0 / case.errors[0], "d1": ranges.d1 / case.errors[1],
             "theta": (ranges.theta[1] - ranges.theta[0]) / 2 / inputs.value("mc/theta/sd")}  # fmt: skip
    dropped = {bar.name: bar.discarded for bar in inputs.gamma.tornado}
    worst = max(dropped, key=lambda name: dropped[name])
    sobol, shaped = inputs.gamma.sobol[0], inputs.gamma.sobol[-1]
    shares = dict(zip(sobol.inputs, sobol.first, strict=True))
    form = dict(zip(shaped.inputs, shaped.total, strict=True))
    spans = ", ".join(f"{name} ±{value:.1f} SD" for name, value in reach.items())
    return Challenge(
        fails=max(reach.values()) > 1.1 * min(reach.values()) or dropped[worst] > 0,
        text=(
            f"Inputs were varied over unequal ranges ({spans}), and {100 * dropped[worst]:.0f} % of "
            f"the grid of {worst} "
            f"was dropped. On one scale d0 carries {100 * shares['d0']:.0f} % and d1 {100 * shares['d1']:.0f} % of the "
            f"variance; with the curve's shape unknown the shape carries {100 * form['exponent']:.0f} %."
        ),
        numbers={
            **{f"reach of {name} in SD": value for name, value in reach.items()},
            **{f"dropped of {name}": share for name, share in dropped.items()},
            **{f"S1 of {name}": share for name, share in shares.items()},
            **{f"ST of {name}, shape unknown": share for name, share in form.items()},
        },
    )


def inside_data(inputs: Inputs, claim: Claim) -> Challenge:
    """How much of the phase diagram lies outside the data, and how far the surface misses measured cells."""
    surface = _surface(inputs, claim)
    extent = inputs.gamma.inputs.extent
    measured = max(cell.gamma for cell in surface.cells), max(cell.weight for cell in surface.cells)
    outside = 1 - measured[0] * measured[1] / (extent[0] * extent[1])
    misses = surface.residuals()
    worst = int(abs(misses).argmax())
    cell = surface.cells[worst]
    here = inputs.gamma.inputs.operating
    arms = [inputs.arm("sweep", here.gamma, here.weight, b) for b in ("factual", "bias", "sycophancy")]
    sds = [arm.sd for arm in arms if arm.sd]
    fold = max(sds) / min(sds)
    return Challenge(
        fails=outside > 0.1,
        text=(
            f"{100 * outside:.0f} % of the rectangle is extrapolated beyond γ {measured[0]:g} and λ "
            f"{measured[1]:g}, three "
            f"coefficients rest on {len(misses)} cells and miss the one at γ {cell.gamma:g}, λ {cell.weight:g} by "
            f"{misses[worst]:+.3f}, and SDs over seeds differ {fold:.0f}-fold "
            "between the behaviors."
        ),
        numbers={"share extrapolated": outside, "largest miss": float(misses[worst]),
                 "largest SD over smallest": fold},
    )  # fmt: skip
