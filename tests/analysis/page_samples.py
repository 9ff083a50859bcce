"""A report with every kind of part in it, written out by hand: for the tests of the page."""

import io

from matplotlib.figure import Figure as Drawing

from analysis.report.document import (
    Address,
    Chart,
    Column,
    Commands,
    Figure,
    Number,
    Report,
    Row,
    SavedQuery,
    Section,
    Sentence,
    Table,
    Text,
)

BEHAVIORS = ("factual", "toxicity", "bias", "deception")
MODELS = ("tiny-a", "tiny-b")
DOSES = (0.0, 0.1, 0.2, 0.5)
SQL = "SELECT run_id, value FROM behavior_scores WHERE metric = :metric"
HOSTILE = 'a "quoted" <b>name</b> & </script>'


def means() -> Table:
    """Means by model, split, metric and behavior."""
    made = []
    for i, (model, metric, behavior) in enumerate((m, q, b) for m in MODELS for q in ("gap", "rho") for b in BEHAVIORS):
        value = (-1) ** i * (i + 1) / 10 + 0.0004
        cells = (
            model, behavior, metric, Number(value=value, text=f"{value:+.3f}", address="a1"),
            Number(value=3 + i, text=str(3 + i), address="a1"), "supported" if i % 2 else "not supported",
        )  # fmt: skip
        made.append(
            Row(
                key=f"{model}|{metric}|{behavior}", cells=cells, model=model, split="eval", metric=metric,
                behavior=behavior, verdict=str(cells[-1]),
            )
        )  # fmt: skip
    columns = (
        Column(key="model", title="Model"),
        Column(key="behavior", title="Behavior"),
        Column(key="metric", title="Metric"),
        Column(key="delta", title="Δ", numeric=True, help="Change from the baseline, `nats/token` for `gap`."),
        Column(key="n", title="n", numeric=True, help="Seeds."),
        Column(key="verdict", title="Verdict"),
    )
    return Table(key="means", title="Mean changes", columns=columns, rows=tuple(made), caption="Split eval; 3 seeds.")


def many(rows: int) -> Section:
    """A long table."""
    columns = (Column(key="name", title="Name"), Column(key="a", title="A", numeric=True), Column(key="b", title="B"))
    made = (
        Row(
            key=f"a long key of row {i}",
            model="tiny-a",
            cells=(f"run {i}", *[Number(value=i / 7, text=f"{i / 7:.3f}", address="a2")] * 2),
        )
        for i in range(rows)
    )
    table = Table(key="rows", title="Rows", columns=columns, rows=tuple(made))
    return Section(key="many", title="Many rows", intro="", parts=(table,))


def dose(facet: bool = False) -> Chart:
    rows = [
        {
            "dose": x, "mean": x * (b + 1) - 0.05 * m, "low": x * (b + 1) - 0.1, "high": x * (b + 1) + 0.1,
            "behavior": name, "model": model, "split": "eval", "metric": "gap",
        }
        for m, model in enumerate(MODELS) for b, name in enumerate(BEHAVIORS) for x in DOSES
    ]  # fmt: skip
    encodings = {"x": "dose", "y": "mean", "low": "low", "high": "high", "colour": "behavior"}
    if facet:
        encodings["facet"] = "model"
    else:
        rows = [row for row in rows if row["model"] == "tiny-a"]
    return Chart(
        key="panels" if facet else "curve", title="Dose-response", kind="dose", rows=tuple(rows), encodings=encodings,
        titles={"x": "λ", "y": "Δ gap (nats/token)", "low": "low", "high": "high"}, addresses=("a2",) * len(rows),
        caption="Points: means; lines: 95 % intervals.",
    )  # fmt: skip


def heatmap() -> Chart:
    rows = tuple(
        {"layer": layer, "behavior": name, "delta": (layer - 2) * (i - 1) / 3, "model": "tiny-b", "metric": "rho"}
        for layer in range(6) for i, name in enumerate(BEHAVIORS)
    )  # fmt: skip
    encodings = {"x": "layer", "y": "behavior", "value": "delta"}
    return Chart(key="map", title="Steering by layer", kind="heatmap", rows=rows, encodings=encodings)


def forest() -> Chart:
    rows = tuple(
        {"effect": i - 1.5, "low": i - 2.2, "high": i - 0.7, "comparison": f"rho-guided against sft-only, {name}",
         "verdict": ("supported", "suggestive", "not supported", "artefact")[i], "model": "tiny-a", "metric": "gap"}
        for i, name in enumerate(BEHAVIORS)
    )  # fmt: skip
    encodings = {"x": "effect", "y": "comparison", "low": "low", "high": "high", "colour": "verdict"}
    return Chart(key="forest", title="Effects", kind="forest", rows=rows, encodings=encodings, addresses=("a1",) * 4)


def bars() -> Chart:
    rates = {("sft-only", "jailbreak"): 0.2, ("sft-only", "benign"): 0.1, ("rho-guided", "jailbreak"): 0.7,
             ("rho-guided", "benign"): 0.15}  # fmt: skip
    rows = tuple(
        {"condition": condition, "kind": kind, "rate": rate, "low": rate - 0.1, "high": rate + 0.2}
        for (condition, kind), rate in rates.items()
    )
    encodings = {"x": "condition", "y": "rate", "low": "low", "high": "high", "colour": "kind"}
    return Chart(key="bars", title="Refusal rates", kind="bars", rows=rows, encodings=encodings)


def points() -> Chart:
    rows = tuple({"tokens": i, "gap": i * i / 20, "condition": "ab"[i % 2], "kind": "xy"[i // 4 % 2]} for i in range(8))
    encodings = {"x": "tokens", "y": "gap", "colour": "condition", "shape": "kind"}
    return Chart(key="points", title="Scatter", kind="points", rows=rows, encodings=encodings)


def picture() -> Figure:
    drawing = Drawing(figsize=(3, 1.5))
    drawing.subplots().plot([0, 1, 0.5])
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return Figure(key="picture", title="A study's figure", png=buffer.getvalue(), alt="A line that goes up and down.")


def report(rows: int = 0) -> Report:
    """All kinds of parts in four sections, one without data; and one with `rows` rows."""
    said = Sentence(text="Toxicity rises by 0.42 [0.31, 0.53].", address="a2")
    intro = Text(key="found", items=("Read with `rhodb sql`.", said, Number(value=0.4213, text="0.42", address="a2")))
    listed = Text(key="list", items=("First.", said), listed=True)
    commands = Commands(
        key="again", title="To run it again", lines=("rhodb run ablation --seeds 42,123", "rhodb report")
    )
    sections = (
        Section(key="ablation", title="Ablation", intro="What changes?", parts=(intro, means(), listed)),
        Section(key="dose-response", title="Dose-response", intro="", parts=(dose(), dose(facet=True), heatmap())),
        Section(key="effects", title="Effects", intro="", parts=(forest(), bars(), points(), picture(), commands)),
        Section(key="steering", title="Steering", intro="Which layer?", missing="No runs; run `rhodb run steering`."),
    )  # fmt: skip
    if rows:
        sections += (many(rows),)
    addresses = {
        "a1": Address(
            kind="row", query="q1", pick="mean over seeds", runs=("r-1", "r-2"), run_count=5, configs=("c0ffee",),
            versions=("v1",), method="mean with 95 % t interval", reference="Student 1908",
        ),
        "a2": Address(kind="finding", query="q1", narrow="value > 0", command="rhodb analyze effects --explain 1"),
    }  # fmt: skip
    ready = SQL.replace(":metric", "'gap'")
    return Report(
        title=f"Notebook of {HOSTILE}", created="2026-11-24T12:00:00+00:00", rhodb_version="0.1.0",
        warehouse={"name": "master.db", "done": 5}, options={"split": "eval"}, sections=sections, addresses=addresses,
        queries={"q1": SavedQuery(sql=SQL, parameters={"metric": "gap"}, ready=ready)},
        versions={"v1": {"mlx": "0.32", "rhodb": "0.1.0"}},
    )  # fmt: skip
