"""`rhodb hypothesis`: register questions before the runs, list them, show their looks, withdraw them."""

import shlex
from typing import Annotated, Any

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import CsvOption, DbOption, JsonOption, MarkdownOption, example, output_format
from rhodb.cli.output import emit, emit_json, note
from rhodb.vocabulary import EMBEDDED_MODEL

app = make_app("Register questions before the runs that answer them; see how far they are decided.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the hypothesis.")]


@app.command(
    "add",
    **example(
        "rhodb hypothesis add refusal-kept --contrast rho-guided:contrastive-only --behavior refusal "
        "--direction greater --margin 0.02",
        "rhodb hypothesis add toxicity-moves --contrast contrastive-only:baseline --behavior toxicity --margin 0.1 "
        "--direction different --max-seeds 12",
        "rhodb hypothesis add shuffled-is-none --kind equivalence --contrast shuffled-pairs:sft-only "
        "--behavior toxicity --margin 0.05",
    ),
)
def add(
    name: NameArgument,
    contrast: Annotated[
        str,
        typer.Option(metavar="ARM:ARM", help="Arms compared, e.g. rho-guided:sft-only; the second may be baseline."),
    ],
    behavior: Annotated[str, typer.Option(help="Behavior, e.g. refusal.")],
    margin: Annotated[float, typer.Option(help="Smallest effect of interest (or margin), in the metric's unit.")],
    *,
    kind: Annotated[str, typer.Option(help="difference, equivalence or non-inferiority.")] = "difference",
    metric: Annotated[str, typer.Option(help="Metric.")] = "gap",
    split: Annotated[str, typer.Option(help="eval, train or none.")] = "eval",
    direction: Annotated[str | None, typer.Option(help="greater, less or different.")] = None,
    model: Annotated[str, typer.Option(help="Model.")] = EMBEDDED_MODEL,
    constant: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting that stays constant.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Level of the family, one-sided.")] = 0.05,
    beta: Annotated[float, typer.Option(help="Probability of refuting what is true, at most.")] = 0.1,
    futility: Annotated[str, typer.Option(help="non-binding, binding or none.")] = "non-binding",
    family: Annotated[str, typer.Option(help="Hypotheses that share their alpha.")] = "main",
    procedure: Annotated[str, typer.Option(help="holm, or ordered (in the order of registration).")] = "holm",
    rule: Annotated[str, typer.Option(help="group-sequential (planned looks) or any-time.")] = "group-sequential",
    spending: Annotated[
        str | None,
        typer.Option(help="pocock or obrien-fleming.  [default: pocock; obrien-fleming against the baseline]"),
    ] = None,
    looks: Annotated[
        str | None, typer.Option(metavar="LIST", help="Seeds at each look.  [default: 3,5,8,12,16,20,...]")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="LIST", help="Seeds in their order.  [default: 1001, 1002, ...]")
    ] = None,
    max_seeds: Annotated[int | None, typer.Option("--max-seeds", help="Most seeds.  [default: 20]")] = None,
    db: DbOption = None,
    json: JsonOption = False,
) -> None:
    """Register a hypothesis; runs that exist already are no evidence for it."""
    from rhodb import hypotheses
    from rhodb.errors import InputError
    from rhodb.warehouse import Warehouse

    arms = [arm.strip() for arm in contrast.split(":")]
    if len(arms) != 2 or not all(arms):
        raise InputError(f"--contrast names two arms with a colon, such as rho-guided:sft-only, got {contrast!r}")
    if direction is None and kind != "equivalence":
        raise InputError("--margin says how much, not which way: add --direction greater, less or different")
    if direction is not None and kind == "equivalence":
        raise InputError("equivalence has no direction: leave --direction out")
    order = _numbers("--seeds", seeds)
    most = max_seeds if max_seeds is not None else len(order) or 20
    if order and max_seeds is not None and len(order) != max_seeds:
        raise InputError(f"--seeds names {len(order)} seeds but --max-seeds is {max_seeds}: give one of them")
    order = order or tuple(range(hypotheses.FIRST_SEED, hypotheses.FIRST_SEED + most))
    any_time = rule == "any-time"
    if any_time and spending is not None:
        raise InputError("--spending goes with --rule group-sequential: an any-time rule spends nothing by plan")
    usual = tuple(range(2, most + 1)) if any_time else hypotheses.usual_looks(most)
    careful = "obrien-fleming" if arms[1] == hypotheses.BASELINE else "pocock"
    asked = hypotheses.Hypothesis(
        name=name, kind=kind, treatment=arms[0], control=arms[1], model=model, settings=_settings(constant or []),
        behavior=behavior, metric=metric, split=split, direction=direction or "different", margin=margin, alpha=alpha,
        beta=beta, futility=futility, family=family, procedure=procedure, rule=rule,
        spending=None if any_time else spending or careful, looks=_numbers("--looks", looks) or usual, seeds=order,
    )  # fmt: skip
    hypotheses.check(asked)
    with Warehouse.open(db) as wh:
        found = hypotheses.register(wh, asked)
    if json:
        emit_json(found.design | {"hash": found.hash})
        return
    typer.echo(f"registered {found.name} at {found.registered_at}, hash {found.hash[:12]}")
    typer.echo(f"claim: {sentence(found)}")
    typer.echo(f"looks after {', '.join(map(str, found.looks))} seeds, from {found.seeds[0]} on ({found.rule})")
    given = ["--model", found.model] if found.model != EMBEDDED_MODEL else []
    given += ["--db", db] if db and "://" not in db else []  # a URL may hold a password
    typer.echo(f"next: {shlex.join(['rhodb', 'run', 'ablation', '--until-decided', *given])}")


@app.command("list", **example("rhodb hypothesis list", "rhodb hypothesis list --json"))
def list_command(
    *, db: DbOption = None, json: JsonOption = False, csv: CsvOption = False, markdown: MarkdownOption = False
) -> None:
    """List the hypotheses with what is known of them; withdrawn ones stay."""
    from rhodb.warehouse import Warehouse

    chosen = output_format(json=json, csv=csv, markdown=markdown)
    with Warehouse.open(db, create=False, read_only=True) as wh:
        rows = wh.rows("SELECT * FROM v_hypotheses ORDER BY hypothesis_id")
    if not rows:
        note("no hypotheses: `rhodb hypothesis add` registers one")
    columns = SHORT if chosen in ("table", "markdown") else list(rows[0]) if rows else SHORT
    emit(rows, format=chosen, columns=columns)


SHORT = ["name", "state", "treatment", "control", "behavior", "metric", "seeds_used", "estimate", "low", "high", "p"]


@app.command("show", **example("rhodb hypothesis show refusal-kept", "rhodb hypothesis show refusal-kept --json"))
def show(name: NameArgument, *, db: DbOption = None, json: JsonOption = False) -> None:
    """Show a hypothesis with its design and every look that was taken."""
    from dataclasses import asdict

    from rhodb import hypotheses
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db, create=False, read_only=True) as wh:
        found = hypotheses.find(wh, name)
        looks = hypotheses.looks_at(wh, found)
    if json:
        emit_json(asdict(found) | {"looks_made": [asdict(look) for look in looks]})
        return
    typer.echo(f"{found.name}: {sentence(found)}")
    typer.echo(f"registered {found.registered_at}, hash {found.hash}")
    if found.withdrawn_at:
        typer.echo(f"withdrawn {found.withdrawn_at}: {found.withdrawn_why}")
    typer.echo(
        f"family {found.family} ({found.procedure}, α {found.alpha:g}), β {found.beta:g}, {found.rule} "
        f"{found.spending or ''}, futility {found.futility}, looks {','.join(map(str, found.looks))}"
    )
    typer.echo(f"model {found.model}, constant {dict(found.settings) or 'nothing'}; seeds {_short(found.seeds)}")
    rows: list[dict[str, Any]] = [
        {"seeds": x.seeds, "decision": x.decision, "level": x.level, "p": x.p, "mean": x.mean, "estimate": x.estimate,
         "low": x.low, "high": x.high, "minutes": x.seconds / 60, "runs": len(x.runs)} for x in looks
    ]  # fmt: skip
    emit(rows)
    if looks:
        typer.echo(looks[-1].method)


@app.command("withdraw", **example('rhodb hypothesis withdraw refusal-kept --why "wrong margin"'))
def withdraw(
    name: NameArgument, why: Annotated[str, typer.Option(help="Reason; it stays with the row.")], *, db: DbOption = None
) -> None:
    """Withdraw a hypothesis; it stays visible with the reason."""
    from rhodb import hypotheses
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db, create=False) as wh:
        hypotheses.withdraw(wh, name, why)
    typer.echo(f"withdrawn: {name}")


@app.command(
    "plan",
    **example(
        "rhodb hypothesis plan refusal-kept", "rhodb hypothesis plan refusal-kept --sd 0.05 --minutes-per-seed 4"
    ),
)
def plan(
    name: NameArgument,
    *,
    sd: Annotated[
        float | None, typer.Option(help="SD of the differences over seeds.  [default: that of earlier runs]")
    ] = None,
    minutes_per_seed: Annotated[
        float | None, typer.Option("--minutes-per-seed", help="Time of one seed.  [default: that of earlier runs]")
    ] = None,
    db: DbOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Show what it takes to decide a hypothesis: power, expected seeds and hours; nothing is run."""
    from dataclasses import asdict
    from statistics import fmean

    from analysis.hypothesis_plan import plan_hypothesis, spread_of
    from rhodb import hypotheses
    from rhodb.errors import InputError
    from rhodb.warehouse import Warehouse

    for option, value in (("--sd", sd), ("--minutes-per-seed", minutes_per_seed)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{option} must be above 0, got {value:g}")
    chosen = output_format(json=json, csv=csv, markdown=markdown)
    with Warehouse.open(db, create=False, read_only=True) as wh:
        found = hypotheses.find(wh, name)
        before = hypotheses.earlier(wh, found)
    seconds = fmean(before.seconds) if before.seconds else None
    if minutes_per_seed is not None:
        seconds = 60 * minutes_per_seed
    result = plan_hypothesis(found, spread_of(list(before.differences), sd), seconds_per_seed=seconds)
    if chosen == "json":
        emit_json(asdict(result))
        return
    emit([asdict(row) for row in result.scenarios], format=chosen)
    interval = "" if result.sd_low is None else f" [{result.sd_low:.4g}, {result.sd_high:.4g}]"
    source = f"from {result.n_earlier} earlier seeds, for planning only" if result.n_earlier else "as stated"
    note(f"{sentence(found)}")
    note(f"SD over seeds {result.sd:.4g}{interval} ({source}); at most {len(found.seeds)} seeds")
    if result.detectable is not None:
        seeds = result.fixed_seeds if result.fixed_seeds is not None else "more than 10,000"
        note(f"fixed design with power {1 - found.beta:g} at the margin: {seeds} seeds")
        note(
            f"smallest effect that {len(found.seeds)} seeds at once would see with that power: {result.detectable:.4g}"
        )
    if result.hours_per_seed is None:
        note("hours are not known: no earlier runs of these arms; give --minutes-per-seed")


def sentence(h: Any) -> str:
    """The claim in words."""
    what = f"{h.metric} of {h.behavior} ({h.split}), {h.treatment} minus {h.control}"
    if h.kind == "equivalence":
        return f"{what}, lies within ±{h.margin:g}"
    if h.kind == "non-inferiority":
        edge = -h.margin if h.direction == "greater" else h.margin
        return f"{what}, is {'above' if h.direction == 'greater' else 'below'} {edge:g}"
    way = {"greater": "above 0", "less": "below 0", "different": "not 0"}[h.direction]
    return f"{what}, is {way}; an effect of {h.margin:g} is of interest"


def _numbers(option: str, value: str | None) -> tuple[int, ...]:
    from rhodb.errors import InputError

    try:
        return tuple(int(part) for part in (value or "").split(",") if part.strip())
    except ValueError:
        raise InputError(f"{option} must be whole numbers with commas, got {value!r}") from None


def _settings(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE settings, validated as the ablation's options are."""
    from rhodb.errors import InputError
    from runners.ablation import AblationConfig
    from runners.config import resolve

    given = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not found or key not in AblationConfig.model_fields or key in ("seeds", "conditions", "model"):
            raise InputError(f"--set takes KEY=VALUE with an option of `rhodb run ablation`, got {pair!r}")
        given[key] = value
    values = resolve(AblationConfig, options=given).model_dump(mode="json")
    return {key: values[key] for key in given}


def _short(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds[:4])) + (f", ..., {seeds[-1]} ({len(seeds)})" if len(seeds) > 5 else "")
