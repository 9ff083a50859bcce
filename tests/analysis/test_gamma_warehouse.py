"""γ*, U-shape and probe noise on warehouses filled with runs whose truth is known, and through the command line."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from grid_samples import BASE, GridWarehouse
from typer.testing import CliRunner

from analysis.answers import Answer, AnswerOptions
from analysis.registry import load_answer_study
from analysis.render.answers import evidence, to_csv, to_markdown
from rhodb import published
from rhodb.cli.main import app
from rhodb.errors import InputError, UnknownNameError
from rhodb.warehouse import Warehouse

SEEDS = (42, 123, 456, 789, 1337)
TRUTH = 0.025
"""γ* of bias in the simulated grid."""


def delta(behavior: str, gamma: float, weight: float) -> float:
    """The true effects: a surface of the phase diagram's form for bias, a steady one for sycophancy."""
    if behavior == "sycophancy":
        return 0.04 + 0.01 * weight
    return 0.005 + 0.125 * weight + 0.4 * (gamma - 0.1) * weight / 0.2


@pytest.fixture(scope="module")
def grid_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seeds of a γ x λ grid, and of plain fine-tuning."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("grid") / "master.db"
    grid = GridWarehouse(path, ("bias", "sycophancy"))

    def scores(gamma: float, weight: float) -> dict[str, float]:
        return {b: BASE + delta(b, gamma, weight) + rng.normal(0, 0.002) for b in ("bias", "sycophancy")}

    for seed in SEEDS:
        for weight in (0.1, 0.2, 0.5):
            for gamma in (0.0, 0.02, 0.05, 0.1):
                grid.add(scores(gamma, weight), seed=seed, weight=weight, margin=gamma)
        grid.add(scores(0.1, 0.0), seed=seed, margin=None)
    return path


def answer_of(db: Path, study: str, **options: object) -> Answer:
    with Warehouse.open(str(db)) as wh:
        published.insert_values(wh, published.read_folder())
        return load_answer_study(study).run(wh, AnswerOptions(**{"samples": 400, **options}))  # type: ignore[arg-type]


def named(answer: Answer, group: str, name: str):  # type: ignore[no-untyped-def]
    (found,) = [q for q in answer.quantities if q.group.startswith(group) and q.name == name]
    return found


def test_a_warehouse_with_a_sweep_of_its_own_is_used_by_default(grid_db: Path) -> None:
    answer = answer_of(grid_db, "gamma", rho_weight=0.2)
    assert answer.inputs == "db" and "db (tiny)" in answer.caption
    exact = named(answer, "γ* in closed form (bias)", "γ*, Student's t with each arm's seeds")
    assert exact.low < TRUTH < exact.high
    line = named(answer, "γ* from 4 margins (bias)", "γ*, straight line")
    assert line.low < TRUTH < line.high
    assert line.high - line.low < 0.01
    resampled = [q for q in answer.quantities if q.group == "γ*, seeds resampled" and q.about == "bias"]
    assert len(resampled) == 1 and resampled[0].low < TRUTH < resampled[0].high
    change = named(answer, "γ* from 4 margins (bias)", "mean Δ changes sign between")
    assert (change.low, change.high) == (0.02, 0.05)


def test_a_measured_grid_gives_a_surface_with_its_residuals(grid_db: Path) -> None:
    answer = answer_of(grid_db, "gamma", rho_weight=0.2)
    stars = {q.name: q for q in answer.quantities if q.group == "Phase diagram (bias)" and q.name.startswith("γ* at")}
    for weight in (0.1, 0.2, 0.5):
        true = 0.1 - (0.005 + 0.125 * weight) * 0.2 / (0.4 * weight)
        found = stars[f"γ* at λ {weight:g}"]
        assert found.low < true < found.high
    residuals = [q for q in answer.quantities if q.name.startswith("residual") and q.group == "Phase diagram (bias)"]
    assert len(residuals) == 13
    assert max(abs(q.value or 0.0) for q in residuals) < 0.004
    assert named(answer, "Phase diagram (bias)", "p of lack of fit").value > 0.001


def test_published_inputs_stay_available_and_are_named(grid_db: Path) -> None:
    answer = answer_of(grid_db, "gamma", inputs="published", samples=10_000)
    assert answer.inputs == "published" and answer.caption.startswith("Inputs: published")
    compared = {q.name: q for q in answer.quantities if q.published is not None and "Monte Carlo" in q.group}
    assert len(compared) == 11
    assert all(q.agrees for q in compared.values()), [q.name for q in compared.values() if not q.agrees]
    wrong = {q.name for q in answer.quantities if q.agrees is False}
    assert {f"A(bias) / A(sycophancy), ε {e}" for e in ("0", "0.001", "0.005", "0.01")} <= wrong


def test_the_same_seed_gives_the_same_json(grid_db: Path) -> None:
    for study in ("gamma", "ushape"):
        one, other = (json.dumps(answer_of(grid_db, study).to_json(), allow_nan=False) for _ in range(2))
        assert one == other
        assert json.loads(one)["given"]


def test_the_evidence_of_a_quantity_returns_exactly_its_runs(grid_db: Path) -> None:
    answer = answer_of(grid_db, "gamma", rho_weight=0.2)
    number, quantity = next(
        (i, q) for i, q in enumerate(answer.quantities, 1) if q.name == "γ*, Student's t with each arm's seeds"
    )
    text = evidence(answer, number)
    sql = text.split("exactly these rows):\n", 1)[1]
    with sqlite3.connect(grid_db) as db:
        cursor = db.execute(sql)
        column = [entry[0] for entry in cursor.description].index("run")
        assert {row[column] for row in cursor} == set(quantity.inputs)
    assert len(quantity.inputs) == 10
    with pytest.raises(InputError, match="there is no such quantity"):
        evidence(answer, 10_000)


def test_the_evidence_of_a_published_quantity_returns_its_figures(grid_db: Path) -> None:
    answer = answer_of(grid_db, "gamma", inputs="published")
    number = next(
        i for i, q in enumerate(answer.quantities, 1) if q.published and q.published.key == "mc/result/median"
    )
    text = evidence(answer, number)
    assert "arm/mc/0/0.2/bias/sd = 0.003 (research-notes, Monte Carlo γ* Distribution)" in text
    with sqlite3.connect(grid_db) as db:
        assert len(db.execute(text.split("exactly these rows):\n", 1)[1]).fetchall()) == 4


def test_ushape_reads_the_doses_of_the_warehouse(grid_db: Path) -> None:
    answer = answer_of(grid_db, "ushape", behaviors=("bias",))
    assert answer.inputs == "db"
    assert {row["rho_weight"] for row in answer.given} == {0.0, 0.1, 0.2, 0.5}
    equal = [q for q in answer.quantities if q.name == "p of equal variances"]
    assert len(equal) == 2 and all((q.value or 0.0) > 0.001 for q in equal)  # the truth has equal variances


def test_runs_under_other_settings_never_join_a_sweep(tmp_path: Path) -> None:
    grid = GridWarehouse(tmp_path / "master.db", ("bias",))
    for seed in SEEDS[:3]:
        grid.add({"bias": 0.09 - seed / 1e6}, seed=seed, margin=0.0)
        grid.add({"bias": 0.14 + seed / 1e6}, seed=seed, margin=0.1, rank=16)
    assert answer_of(grid.path, "gamma").inputs == "published"
    with pytest.raises(InputError, match="no behavior with two margins under one λ and the same settings"):
        answer_of(grid.path, "gamma", inputs="db")


def test_two_margins_of_two_behaviors_are_no_sweep(tmp_path: Path) -> None:
    grid = GridWarehouse(tmp_path / "master.db", ("bias", "reasoning"))
    for seed in SEEDS[:3]:
        grid.add({"bias": 0.09 - seed / 1e6}, seed=seed, margin=0.0)
        grid.add({"reasoning": 0.14 + seed / 1e6}, seed=seed, margin=0.1)
    assert answer_of(grid.path, "gamma").inputs == "published"
    with pytest.raises(InputError, match="no behavior with two margins"):
        answer_of(grid.path, "gamma", inputs="db")


def test_seeds_without_spread_give_no_interval_but_an_answer(tmp_path: Path) -> None:
    grid = GridWarehouse(tmp_path / "master.db", ("bias",))
    for i, seed in enumerate(SEEDS):
        grid.add({"bias": 0.09}, seed=seed, margin=0.0)
        grid.add({"bias": 0.14 + i / 100}, seed=seed, margin=0.1)
    answer = answer_of(grid.path, "gamma", inputs="db")
    assert any("no spread" in sentence for sentence in answer.conclusions)
    json.dumps(answer.to_json(), allow_nan=False)


def test_probe_noise_is_measured_on_probe_scores(tmp_path: Path) -> None:
    """Probes differ by SD 0.5, their changes by SD 0.05: pairing must find r near 1 and an error ten times smaller."""
    rng, n = np.random.default_rng(7), 80
    before = rng.normal(BASE, 0.5, n)
    grid = GridWarehouse(tmp_path / "master.db", ("bias",), {"bias": before})
    means: dict[float, list[float]] = {0.0: [], 0.1: []}
    for seed in SEEDS[:3]:
        for gamma, change in ((0.0, -0.02), (0.1, 0.04)):
            after = before + change + rng.normal(0, 0.05, n)
            means[gamma].append(float((after - before).mean()))
            grid.add({"bias": BASE + means[gamma][-1]}, seed=seed, margin=gamma, gaps={"bias": after})
    answer = answer_of(grid.path, "probe-noise")
    assert answer.inputs == "db"
    group = "Measured over probes: bias"
    assert named(answer, group, "correlation of a probe before and after").value > 0.98
    assert named(answer, group, "SD of Δ, same probes").value == pytest.approx(0.05 / n**0.5, rel=0.3)
    assert named(answer, group, "SD of Δ, as if other probes").value == pytest.approx(0.5 * (2 / n) ** 0.5, rel=0.3)
    assert named(answer, group, "gap before training").value == pytest.approx(float(before.mean()))
    low, high = (getattr(named(answer, "γ* of bias", "γ*, probes resampled"), end) for end in ("low", "high"))
    d0, d1 = (float(np.mean(means[gamma])) for gamma in (0.0, 0.1))
    star = -0.1 * d0 / (d1 - d0)
    # Delta method: two independent means of changes with SD 0.05 / sqrt(3 runs x 80 probes).
    error = 0.1 * np.hypot(d1, d0) / (d1 - d0) ** 2 * 0.05 / (3 * n) ** 0.5
    assert (low, high) == pytest.approx((star - 1.96 * error, star + 1.96 * error), abs=0.35 * error)
    number = next(i for i, q in enumerate(answer.quantities, 1) if q.group == group)
    with sqlite3.connect(grid.path) as db:
        rows = db.execute(evidence(answer, number).split("exactly these rows):\n", 1)[1]).fetchall()
    assert len(rows) == 6 * n


def test_no_probe_scores_no_probe_noise(grid_db: Path) -> None:
    assert answer_of(grid_db, "probe-noise").inputs == "published"
    with pytest.raises(InputError, match="no probe scores for two margins"):
        answer_of(grid_db, "probe-noise", inputs="db")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": "both"}, "unknown kind of inputs 'both'; choose from auto, published, db"),
        ({"samples": 5}, "--samples must lie between"),
        ({"rho_weight": -1.0}, "--rho-weight must be > 0"),
        ({"metrics": ("gap", "rho")}, "give one metric"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=message):
        AnswerOptions(**options)  # type: ignore[arg-type]


def test_every_rendering_names_inputs_and_every_quantity(grid_db: Path) -> None:
    answer = answer_of(grid_db, "probe-noise", inputs="published")
    assert len(to_csv(answer).splitlines()) == len(answer.quantities) + 1
    markdown = to_markdown(answer)
    assert "Inputs: published" in markdown
    assert all(group in markdown for group in {q.group for q in answer.quantities})


@pytest.mark.parametrize("study", ["gamma", "ushape", "probe-noise"])
def test_it_works_right_after_installation(study: str, tmp_path: Path) -> None:
    """No warehouse yet: it is created, the shipped figures are copied and said to be."""
    db, figures = tmp_path / "new" / "master.db", tmp_path / "figures"
    run = CliRunner().invoke
    first = run(app, ["analyze", study, "--db", str(db), "--samples", "200", "--figures", str(figures)])
    assert first.exit_code == 0, first.output
    assert "published figures copied into" in first.stderr and "Inputs: published" in first.stdout
    assert {path.suffix for path in figures.iterdir()} == {".png", ".svg"}
    assert all(path.name.startswith("gamma_") and path.stat().st_size > 5000 for path in figures.iterdir())
    again = run(app, ["analyze", study, "--db", str(db), "--samples", "200", "--json"])
    assert again.exit_code == 0 and "copied" not in again.stderr
    assert json.loads(again.stdout)["inputs"] == "published"


def test_figures_of_a_warehouse_are_drawn(grid_db: Path, tmp_path: Path) -> None:
    from analysis.gamma import figures as gamma_figures
    from analysis.ushape import figures as ushape_figures

    paths = gamma_figures.draw(answer_of(grid_db, "gamma").drawing, tmp_path)
    paths += ushape_figures.draw(answer_of(grid_db, "ushape").drawing, tmp_path)
    names = ("mc_distribution", "amplification", "sensitivity", "phase_diagram", "variance_ushape")
    assert {path.stem for path in paths} == {f"gamma_{name}" for name in names}
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        ushape_figures.draw(answer_of(grid_db, "ushape").drawing, tmp_path / "file")


def test_an_unchanged_warehouse_answers_from_the_store_and_diff_says_what_moved(grid_db: Path, tmp_path: Path) -> None:
    db = tmp_path / "it's" / "master.db"
    db.parent.mkdir()
    with sqlite3.connect(grid_db) as source, sqlite3.connect(db) as target:
        source.backup(target)
    asked = ["--db", str(db), "--inputs", "db", "--samples", "200", "--json"]

    def run(*words: str) -> str:
        found = CliRunner().invoke(app, ["analyze", *words, *asked])
        assert found.exit_code == 0, found.output
        return found.stdout

    first = run("gamma")
    assert run("gamma") == first
    with sqlite3.connect(db) as connection:
        assert connection.execute("SELECT study FROM analysis_results").fetchall() == [("gamma",)]
        connection.execute("UPDATE analysis_results SET result = replace(result, 'γ*', 'gamma star')")
    assert "gamma star" in run("gamma")  # it is read, not computed
    with sqlite3.connect(db) as connection:
        connection.execute("UPDATE analysis_results SET result = replace(result, 'gamma star', 'γ*')")
        connection.execute("UPDATE behavior_scores SET value = value + 0.01 WHERE behavior = 'bias' AND run_id % 2 = 0")
    rows = json.loads(run("diff", "gamma"))
    assert {row["change"] for row in rows} >= {"moved"}
    assert all(row["value_before"] != row["value_now"] or row["low_before"] != row["low_now"] or
               row["high_before"] != row["high_now"] or row["kind_before"] != row["kind_now"]
               for row in rows if row["change"] == "moved")  # fmt: skip


def test_a_slope_that_may_be_zero_has_no_variance_to_share_out(tmp_path: Path) -> None:
    grid = GridWarehouse(tmp_path / "master.db", ("bias",))
    for seed, (low, high) in zip(
        SEEDS, ((0.09, 0.1), (0.11, 0.09), (0.08, 0.12), (0.1, 0.1), (0.12, 0.11)), strict=True
    ):
        grid.add({"bias": low}, seed=seed, margin=0.0)
        grid.add({"bias": high}, seed=seed, margin=0.1)
    answer = answer_of(grid.path, "gamma", inputs="db")
    assert not [q for q in answer.quantities if q.group.startswith("Sobol")]
    assert any("no variance to share out" in sentence for sentence in answer.conclusions)
    exact = named(answer, "γ* in closed form (bias)", "γ*, Student's t with each arm's seeds")
    assert exact.kind == "whole line" and exact.low is None


@pytest.mark.parametrize("study", ["gamma", "ushape", "probe-noise"])
def test_help_loads_nothing_heavy(study: str) -> None:
    code = (
        "import sys\nfrom rhodb.cli.main import app\n"
        f"try:\n    app(['analyze', {study!r}, '--help'])\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "heavy = {'pandas', 'scipy', 'numpy', 'sqlalchemy', 'matplotlib', 'SALib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
