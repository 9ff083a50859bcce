"""From stored configurations back to the command lines that make the runs. Every option is spelled out.

A configuration holds only what has an effect; what a command leaves to its default does not change these runs. Data
that a user supplied (probe folders, instruction files) stand in it as a fingerprint only.
"""

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from analysis.query import read_sql
from analysis.report.context import Context
from analysis.report.sections.families import several_weights
from rhodb.vocabulary import EMBEDDED_MODEL

Config = Mapping[str, Any]

SCORING: Final = ("behaviors", "max_length", "probe_split", "probes_per_behavior")
TRAINING: Final = (
    "sft_size", "trap_share", "refusal_share", "epochs", "batch_size", "accumulation", "lr", "weight_decay", "warmup",
    "lora_rank", "lora_alpha", "lora_targets",
)  # fmt: skip
CONTRAST: Final = ("contrast", "contrast_behaviors", "pairs_per_step")
SAE: Final = (
    "features", "permutations", "sae_features", "sae_epochs", "sae_batch", "sae_lr", "sae_sparsity", "sae_tokens",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the runs of a kind are asked for."""

    runner: str
    axes: Mapping[str, str]
    """Configuration key -> option that takes a list of its values."""
    fixed: tuple[str, ...]
    """Keys that are options of the same name."""
    flags: Mapping[str, tuple[str, str]] | None = None
    """Key -> options for true and false."""
    renamed: Mapping[str, str] | None = None


FINE_TUNED: Final = {"fine_tuned": ("--fine-tune", "--no-fine-tune"), "requantize": ("--requantize", "")}
RECIPES: Final[Mapping[str, Recipe]] = {
    "freeze": Recipe(
        runner="freeze-sweep", axes={"compress_ratio": "compress-ratios", "freeze_ratio": "freeze-ratios"},
        fixed=(*SCORING, *TRAINING, "rho_weight", "margin", *CONTRAST), flags=FINE_TUNED,
    ),
    "cf90": Recipe(
        runner="cf90", axes={}, fixed=("ratio", "freeze_ratio", *SCORING, *TRAINING, "rho_weight", "margin", *CONTRAST),
        flags={"calibrated": ("--calibrate", "--no-calibrate"), "requantize": ("--requantize", "")},
    ),
    "steering": Recipe(
        runner="steering", axes={"layer": "layers", "alpha": "alpha"}, fixed=("behavior", "method", *SCORING),
    ),
    "attack_defense": Recipe(
        runner="attack-defense", axes={"scale": "scales", "target": "behaviors"},
        fixed=("layer", "regression", *SAE, *(name for name in SCORING if name != "behaviors")),
    ),
    "hybrid": Recipe(
        runner="hybrid",
        axes={"compress_ratio": "compress-ratios", "freeze_fraction": "freeze-fractions", "sae_layer": "sae-layers",
              "rho_weight": "rho-weights"},
        fixed=(*SCORING, *TRAINING, "margin", *CONTRAST, *SAE, "sae_target", "sae_scale"),
    ),
    "fidelity": Recipe(
        runner="fidelity-bench", axes={}, fixed=("categories", "probes_per_category", *SCORING[:3]),
        renamed={"probes_per_category": "probes-per-behavior"},
    ),
}  # fmt: skip


def command_lines(ctx: Context, found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The commands of the runs (rows of report_configurations.sql), and what they cannot say."""
    seeds = _seeds(ctx)
    lines, untold = _ingests(ctx)
    by_model: dict[tuple[str, str], list[tuple[Config, list[int]]]] = defaultdict(list)
    for row in found:
        if row["origin"] == "rhodb":
            place = (row["kind"], row["model"])
            by_model[place].append((json.loads(row["config"]), seeds[*place, row["config_hash"]]))
    for (kind, model), configs in by_model.items():
        if kind == "alignment":
            lines += _alignment(model, configs)
        elif kind == "stress":
            trained = by_model.get(("alignment", model), [])
            lines += _stress(model, configs, trained, [row for row in found if row["kind"] == "alignment"])
        elif kind == "landscape":
            lines += _landscape(configs)
        elif kind in RECIPES:
            lines += _by_recipe(RECIPES[kind], model, configs)
        elif kind == "leaderboard":
            lines += _leaderboard(model, configs)
    if several_weights(found):
        untold.append(
            "A model's key stands for several weights here (they changed between runs); a command names the key only "
            "and trains what stands under it now."
        )
    if by_model:
        untold.append(
            "Probe folders (--probes) and instruction data (--sft-data) that were given stand in the configurations as "
            "fingerprints; the commands use the default ones."
        )
    return list(dict.fromkeys(lines)), untold


def _seeds(ctx: Context) -> Mapping[tuple[str, str, str], list[int]]:
    """Kind, model, configuration -> the seeds it was run with, in the order of the runs."""
    found: dict[tuple[str, str, str], dict[int, None]] = defaultdict(dict)
    for run in ctx.book.facts.values():
        if run.state == "done":
            found[run.kind, run.model, run.config_hash][run.seed] = None
    return {place: list(seeds) for place, seeds in found.items()}


def _ingests(ctx: Context) -> tuple[list[str], list[str]]:
    """One command a folder of ingested files."""
    rows = ctx.wh.rows(read_sql("report_sources"))
    folders = dict.fromkeys(str(row["path"]).rpartition("/")[0] or "." for row in rows)
    lines = [shlex.join(["rhodb", "ingest", folder]) for folder in folders]
    note = "Ingested runs come from files of other programs; `rhodb sql --query sources` lists them with SHA-256."
    return lines, [note] if lines else []


def command(runner: str, options: Iterable[tuple[str, Any]]) -> str:
    """A line; lists with commas, None and empty lists left out."""
    words = ["rhodb", "run", runner]
    for name, value in options:
        if value is None or value in ([], ""):
            continue
        words += [f"--{name.replace('_', '-')}", _word(value)] if value is not True else [name]
    return shlex.join(words)


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(_word(item) for item in value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _model(model: str) -> list[tuple[str, Any]]:
    return [] if model == EMBEDDED_MODEL else [("model", model)]


def _fixed(config: Config, names: Iterable[str]) -> list[tuple[str, Any]]:
    return [(name, config.get(name)) for name in names]


def _union(lists: Iterable[Sequence[int]]) -> list[int]:
    return sorted({seed for seeds in lists for seed in seeds})


def _alignment(model: str, configs: Sequence[tuple[Config, list[int]]]) -> Iterator[str]:
    """Ablations, dose-response series and margin sweeps: the fewest commands that cover the runs."""
    groups: dict[str, list[tuple[Config, list[int]]]] = defaultdict(list)
    for config, seeds in configs:
        groups[_key(config, (*SCORING, *TRAINING, "checkpoints", "cluster_split"))].append((config, seeds))
    for members in groups.values():
        plain = [m for m in members if m[0]["condition"] == "sft-only"]
        contrasts: dict[str, list[tuple[Config, list[int]]]] = defaultdict(list)
        for member in members:
            if member[0]["condition"] != "sft-only":
                contrasts[_key(member[0], CONTRAST)].append(member)
        if not contrasts:
            config = plain[0][0]
            yield _trained("ablation", model, config, [("conditions", "sft-only")], _union(s for _, s in plain))
        for guided in contrasts.values():
            yield from _arms(model, guided, plain)


def _arms(
    model: str, guided: Sequence[tuple[Config, list[int]]], plain: Sequence[tuple[Config, list[int]]]
) -> Iterator[str]:
    at: dict[tuple[float, float], list[tuple[Config, list[int]]]] = defaultdict(list)
    for config, seeds in guided:
        at[config["rho_weight"], config["margin"]].append((config, seeds))
    told_plain = False
    doses: dict[float, list[float]] = defaultdict(list)
    for (weight, margin), members in at.items():
        conditions = [c["condition"] for c, _ in members]
        if conditions == ["rho-guided"]:
            doses[margin].append(weight)
            continue
        with_plain = [*plain, *members]
        names = [c["condition"] for c, _ in with_plain]
        told_plain = True
        axes = [("conditions", names), ("rho_weight", weight), ("margin", margin)]
        yield _trained("ablation", model, members[0][0], axes, _union(s for _, s in with_plain))
    margins_of: dict[tuple[float, ...], list[float]] = defaultdict(list)
    for margin, found in doses.items():
        margins_of[tuple(sorted(found))].append(margin)
    for weights, margins in margins_of.items():
        seeds = _union(s for (w, m), members in at.items() if w in weights and m in margins for _, s in members)
        config = next(c for (w, m), members in at.items() if w in weights and m in margins for c, _ in members)
        zero = [0.0] if plain and not told_plain else []
        told_plain = True
        if len(margins) > 1:
            axes = [("margins", sorted(margins)), ("rho_weights", [*zero, *weights])]
            yield _trained("margin-sweep", model, config, axes, seeds)
        else:
            axes = [("rho_weights", [*zero, *weights]), ("margin", margins[0])]
            yield _trained("dose-response", model, config, axes, seeds)


def _trained(runner: str, model: str, config: Config, axes: list[tuple[str, Any]], seeds: list[int]) -> str:
    """A training command; one with scores on the way is a duration experiment of its own."""
    options = [*_model(model), *axes, ("seeds", seeds), *_fixed(config, (*SCORING, *TRAINING, *CONTRAST))]
    if "checkpoints" in config:
        runner, kept = "duration", [o for o in options if o[0] not in ("conditions", "rho_weights", "margins")]
        given = dict(options)
        conditions = given.get(
            "conditions", ["sft-only", "rho-guided"] if 0.0 in given["rho_weights"] else "rho-guided"
        )
        per_epoch = round((len(config["checkpoints"]) + 1) / max(1.0, config["epochs"]))
        options = [*kept, ("conditions", conditions), ("checkpoints_per_epoch", per_epoch)]
        options += [("rho_weight", [w for w in given["rho_weights"] if w])] if "rho_weights" in given else []
    return command(runner, options)


def _key(config: Config, names: Iterable[str]) -> str:
    return json.dumps([config.get(name) for name in names])


def _by_recipe(recipe: Recipe, model: str, configs: Sequence[tuple[Config, list[int]]]) -> Iterator[str]:
    """One command for all configurations that agree but for the recipe's axes."""
    flags = recipe.flags or {}
    conditional = set(recipe.fixed) - set(SCORING)
    groups: dict[str, list[tuple[Config, list[int]]]] = defaultdict(list)
    for config, seeds in configs:
        always = [name for name in (*recipe.fixed, *flags) if name in config and name not in (*CONTRAST, "margin")]
        groups[_key(config, always) if conditional else ""].append((config, seeds))
    for members in groups.values():
        merged = {key: value for config, _ in members for key, value in config.items()}
        options = _model(model)
        for key, option in recipe.axes.items():
            values = _distinct([_none(c.get(key)) for c, _ in members if key in c])
            options.append((option, sorted(values, key=lambda value: (isinstance(value, str), value))))
        options.append(("seeds", _union(seeds for _, seeds in members)))
        controls = [config["control"] for config, _ in members if config.get("control") is not None]
        options.append(("controls", max(controls) + 1 if controls else None))
        for name in recipe.fixed:
            options.append(((recipe.renamed or {}).get(name, name), merged.get(name)))
        for key, (on, off) in flags.items():
            word = on if merged.get(key) else off
            options.append((word, True if word else None))
        yield command(recipe.runner, options)


def _none(value: Any) -> Any:
    return "none" if value is None else value


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _landscape(configs: Sequence[tuple[Config, list[int]]]) -> Iterator[str]:
    groups: dict[str, list[tuple[Config, list[int]]]] = defaultdict(list)
    for config, seeds in configs:
        groups[_key(config, ("nodes", "order", "resolution", "variants"))].append((config, seeds))
    for members in groups.values():
        main = next((m for m in members if m[0].get("map")), max(members, key=lambda m: len(m[1])))
        threshold = main[0]["threshold"]
        first = main[1][0]
        own = [member for member in members if "shuffle" not in member[0]]
        seeds = [first, *(s for c, found in own for s in found if c["threshold"] == threshold and s != first)]
        others = sorted({c["threshold"] for c, _ in members})
        options = [("threshold", threshold), ("seeds", seeds), ("thresholds", others),
                   ("order", main[0].get("order", "file")), ("orders", len(members) - len(own)),
                   ("resolution", main[0]["resolution"])]  # fmt: skip
        options += [("--no-variants", True)] if not main[0]["variants"] else []
        options += [("--no-map", True)] if not main[0].get("map") else []
        yield command("landscape", options)


def _leaderboard(model: str, configs: Sequence[tuple[Config, list[int]]]) -> Iterator[str]:
    entries = [config["entry"] for config, _ in configs if "entry" in config]
    merges = _distinct([config["merge_method"] for config, _ in configs if "merge_method" in config])
    scoring = _fixed(configs[0][0], SCORING)
    seeds = _union(seeds for _, seeds in configs)
    yield command("leaderboard", [*_model(model), ("models", entries), ("merge", merges), ("seeds", seeds), *scoring])


def _stress(
    model: str,
    configs: Sequence[tuple[Config, list[int]]],
    trained: Sequence[tuple[Config, list[int]]],
    rows: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    """The stress test of each training configuration that it names."""
    by_hash = {row["config_hash"]: json.loads(row["config"]) for row in rows if row["model"] == model}
    groups: dict[str, list[tuple[Config, Config, list[int]]]] = defaultdict(list)
    for config, seeds in configs:
        training = by_hash.get(config.get("training") or "")
        if training is not None:
            groups[_key(training, (*SCORING, *TRAINING))].append((config, training, seeds))
    for members in groups.values():
        merged = {key: value for _, training, _ in members for key, value in training.items()}
        conditions = ["baseline", *_distinct([config["condition"] for config, _, _ in members])]
        guided = {key: merged.get(key) for key in ("rho_weight", "margin", *CONTRAST)}
        weight = max((t["rho_weight"] for _, t, _ in members), default=None)
        options = [
            *_model(model), ("conditions", conditions), ("seeds", _union(s for _, _, s in members)),
            ("response_tokens", members[0][0].get("response_tokens")),
            ("judge", str(members[0][0]["judge"]).split("-")[0]),
            ("rho_weight", weight), *((k, v) for k, v in guided.items() if k != "rho_weight"),
            *_fixed(merged, (*SCORING, *TRAINING)),
        ]  # fmt: skip
        yield command("stress-test", options)
