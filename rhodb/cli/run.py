"""`rhodb run RUNNER`: options from the runner's configuration, and of plans; `execution` does what they say."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from typer.main import get_command

from rhodb.cli.execution import Invocation, run_experiment, run_plan
from rhodb.cli.lazy import LazyGroup, make_app
from rhodb.cli.options import DbOption, JsonOption, example
from rhodb.errors import InputError
from runners.registry import RUNNERS, load_runner

if TYPE_CHECKING:
    from runners.config import RunConfig

EXAMPLES = {
    "ablation": (
        "rhodb run ablation --seeds 42,123",
        "rhodb run ablation --preset paper --model Qwen/Qwen2.5-7B-Instruct --seeds 42,123,456,789,1337",
        "rhodb run ablation --conditions rho-guided,sft-only --rho-weight 0.5 --dry-run",
        "rhodb run ablation --until-decided --budget 8h",
    ),
    "dose-response": ("rhodb run dose-response --rho-weights 0,0.1,0.2,0.5 --seeds 42,123,456,789,1337",),
    "margin-sweep": (
        "rhodb run margin-sweep --margins 0,0.02,0.03,0.05,0.1",
        "rhodb run margin-sweep --margins 0,0.05,0.1 --rho-weights 0.1,0.2,0.5 --seeds 42,123",
    ),
    "mixture": ("rhodb run mixture --refusal-shares 0,0.1,0.25,0.5 --seeds 42,123",),
    "duration": ("rhodb run duration --epochs 1,2,3 --checkpoints-per-epoch 2",),
    "stress-test": (
        "rhodb run stress-test --seeds 42,123,456",
        "rhodb run stress-test --prompts xstest.jsonl --judge logprob --conditions baseline,rho-guided",
    ),
    "freeze-sweep": (
        "rhodb run freeze-sweep --compress-ratios 0.7,1.0 --freeze-ratios 0,0.25,0.5,0.75,0.9",
        "rhodb run freeze-sweep --no-fine-tune --compress-ratios 0.5,0.7,0.9,1.0 --freeze-ratios 0",
    ),
    "cf90": ("rhodb run cf90 --ratio 0.7 --seeds 42,123,456",),
    "steering": (
        "rhodb run steering --layers 10:30:2 --alpha 4 --behavior sycophancy",
        "rhodb run steering --layers 15 --alpha 1,2,4,8 --method pca --controls 5",
    ),
    "attack-defense": ("rhodb run attack-defense --layer 15 --scales 0,0.5,1,2,4 --behaviors refusal,deception",),
    "hybrid": ("rhodb run hybrid --compress-ratios 0.7,1 --freeze-fractions 0.75 --sae-layers none,15",),
    "leaderboard": ("rhodb run leaderboard --models ADAPTER_FOLDER,OTHER_FOLDER --merge linear,slerp,ties",),
    "fidelity-bench": ("rhodb run fidelity-bench --categories mandela,medical,logic",),
    "landscape": (
        "rhodb run landscape",
        "rhodb run landscape --threshold 0.7 --seeds 42 --thresholds 0.7",
        "rhodb run landscape --probes my-probes --no-variants --dry-run",
    ),
}


WorkersOption = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Processes on this machine that share the cells  [default: one a core, as memory allows; 1 on a GPU]",
    ),
]


def parse_workers(text: str | None) -> int | None:
    """The value of --workers. Raises InputError for anything but a whole number from 1."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise InputError(f"--workers must be a whole number of processes, 1 or more; got {text!r}")
    return int(text)


class RunGroup(LazyGroup):
    """The runners of the registry, each with the options of its configuration."""

    table: ClassVar[Mapping[str, tuple[str, str]]] = {
        **RUNNERS,
        "rejudge": ("rhodb.cli.rejudge:app", "Judge the stored responses of all stress tests again."),
    }

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in RUNNERS:
            return super().get_command(ctx, cmd_name)
        command = get_command(build_app(cmd_name))
        command.name = cmd_name
        return command


app = make_app(
    "Run an experiment: plan its cells, execute those that are not done, store the rows.",
    cls=RunGroup,
    no_args_is_help=False,
)


@app.callback(invoke_without_command=True)
def run(
    ctx: typer.Context,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Run a plan of several experiments (see rhodb plan).")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="With --plan: run failed cells again.")] = False,
    workers: WorkersOption = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="ADDRESS", help="With --plan: a Dask scheduler, tcp://host:8786.")
    ] = None,
    until_decided: Annotated[
        bool, typer.Option("--until-decided", help="With --plan: blocks of seeds until the hypotheses are decided.")
    ] = False,
    max_seeds: Annotated[
        str | None, typer.Option("--max-seeds", metavar="N", help="With --until-decided: most seeds.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="With --until-decided: longest time, e.g. 8h.")
    ] = None,
    db: DbOption = None,
    json: JsonOption = False,
) -> None:
    """Run an experiment: plan its cells, execute those that are not done, store the rows."""
    if ctx.invoked_subcommand is not None:
        if plan is not None or workers is not None or cluster is not None:
            raise InputError(
                f"--plan and --cluster do not go with {ctx.invoked_subcommand}, and its --workers comes behind its name"
            )
        return
    if plan is None:
        typer.echo(ctx.get_help())
        return
    if workers is not None and cluster is not None:
        raise InputError("give either --workers N or --cluster ADDRESS")
    invocation = Invocation(db=db, json=json, retry_failed=retry_failed, workers=parse_workers(workers))
    if until_decided:
        from rhodb.cli.deciding import decide_plan, read_limits

        decide_plan(plan, invocation, read_limits(max_seeds, budget), cluster=cluster)
        return
    _without_until_decided(max_seeds, budget)
    run_plan(plan, invocation, cluster=cluster)


def _without_until_decided(max_seeds: str | None, budget: str | None) -> None:
    if max_seeds is not None or budget is not None:
        raise InputError("--max-seeds and --budget go with --until-decided")


def build_app(name: str) -> typer.Typer:
    """A one-command application for a runner; its parameters are read off the configuration model."""
    runner = load_runner(name)
    runner_app = make_app("", no_args_is_help=False)

    def command(**given: Any) -> None:
        common = {key: given.pop(key) for key in COMMON}
        preset, config = common.pop("preset"), common.pop("config")
        invocation = Invocation(**(common | {"workers": parse_workers(common.pop("workers"))}))
        if name in DECIDING and _decides(name, given, invocation, preset=preset, config=config):
            return
        run_experiment(name, given, invocation, preset=preset, config=config)

    parameters = [*_config_parameters(runner.config), *(UNTIL if name in DECIDING else ()), *COMMON.values()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = inspect.getdoc(runner)
    runner_app.command(name, **example(*EXAMPLES.get(name, (f"rhodb run {name}",))))(command)
    return runner_app


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


COMMON: Mapping[str, inspect.Parameter] = {
    p.name: p
    for p in (
        _parameter(
            "preset",
            Annotated[str | None, typer.Option(help="quick or paper  [default: quick with the embedded model]")],
            None,
        ),
        _parameter("config", Annotated[Path | None, typer.Option(help="TOML file with these options as keys.")], None),
        _parameter("dry_run", Annotated[bool, typer.Option("--dry-run", help="Print the plan, run nothing.")], False),
        _parameter(
            "retry_failed", Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")], False
        ),
        _parameter("workers", WorkersOption, None),
        _parameter("db", DbOption, None),
        _parameter("json", JsonOption, False),
    )
}


DECIDING = ("ablation", "dose-response", "margin-sweep")
"""Experiments whose arms a hypothesis can be about."""
UNTIL = (
    _parameter(
        "until_decided",
        Annotated[
            bool,
            typer.Option(
                "--until-decided", help="Blocks of seeds, and a look after each, until the hypotheses are decided."
            ),
        ],
        False,
    ),
    _parameter(
        "max_seeds",
        Annotated[str | None, typer.Option("--max-seeds", metavar="N", help="With --until-decided: most seeds.")],
        None,
    ),
    _parameter(
        "budget",
        Annotated[
            str | None, typer.Option("--budget", metavar="TIME", help="With --until-decided: longest time, e.g. 8h.")
        ],
        None,
    ),
)


def _decides(
    name: str, given: dict[str, Any], invocation: Invocation, *, preset: str | None, config: Path | None
) -> bool:
    """Take the options of --until-decided out of `given`; if it was asked for, do it."""
    until_decided, max_seeds, budget = (given.pop(key) for key in ("until_decided", "max_seeds", "budget"))
    if not until_decided:
        _without_until_decided(max_seeds, budget)
        return False
    from rhodb.cli.deciding import decide_experiment, read_limits

    decide_experiment(name, given, invocation, read_limits(max_seeds, budget), preset=preset, config=config)
    return True


def _config_parameters(config: "type[RunConfig]") -> Iterator[inspect.Parameter]:
    """One option a field. Values stay text here: the model validates them, as it does those of a TOML file."""
    from runners.config import QUICK

    varied = getattr(config, "varied", {})
    for name, field in config.model_fields.items():
        if name in varied:
            continue
        option = "--" + name.replace("_", "-")
        shown = [] if field.default is None else [f"default: {_as_option(field.default)}"]
        shown += [f"quick: {_as_option(QUICK[name])}"] if name in QUICK else []
        text = f"{field.description}" + (f"  [{', '.join(shown)}]" if shown else "")
        if field.annotation is bool:
            declared = typer.Option(f"{option}/--no-{option[2:]}", help=text, show_default=False)
            yield _parameter(name, Annotated[bool | None, declared], None)
        else:
            yield _parameter(
                name, Annotated[str | None, typer.Option(option, metavar=_metavar(field.annotation), help=text)], None
            )


def _as_option(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _metavar(annotation: Any) -> str:
    text = str(annotation)
    return "LIST" if "tuple" in text else "NUMBER" if annotation in (int, float) else "TEXT"
