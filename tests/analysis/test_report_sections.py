"""Parts of a report that compute something of their own: paired stress tests, trends by setting, command lines."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.report.addresses import Book
from analysis.report.context import Context, ReportOptions
from analysis.report.document import Commands, Number, Table
from analysis.report.sections.overview import reproducibility
from analysis.report.sections.questions import QUESTIONS, questions
from analysis.report.sections.stress import _signs, stress
from analysis.report.sections.trends import setting_trends
from rhodb.family_records import StressResponseRow, StressRow
from rhodb.records import ModelRecord, Outcome, Provenance, RunIdentity, digest  # fmt: skip
from rhodb.warehouse import Warehouse


def context(wh: Warehouse, **options: Any) -> Context:
    return Context(wh=wh, options=ReportOptions(**options), book=Book(wh))


def answers(
    condition: str, seed: int, refused: list[bool], training_run: str | None = None, **settings: object
) -> Outcome:
    """A stress test of eight jailbreaks of two categories."""
    from rhodb.store import run_uuid

    identity = RunIdentity(
        kind="stress", model_key="tiny", model_fingerprint=digest("tiny"), seed=seed,
        config={"condition": condition} | settings,
    )  # fmt: skip
    rows = [
        StressResponseRow(
            prompt_key=f"p{i}", kind="jailbreak", category="fictional" if i < 4 else "authority", prompt="?",
            response=".", refused=no, judge="rules-1",
        )
        for i, no in enumerate(refused)
    ]  # fmt: skip
    summary = StressRow(
        condition=condition, training_run=training_run, n_jailbreak=len(refused), jailbreak_refused=sum(refused),
        n_benign=None, benign_refused=None, judge="rules-1",
    )  # fmt: skip
    return Outcome(
        uuid=run_uuid(identity), identity=identity, attempt=1, seconds=1.0, baseline=None, scores=(),
        model=ModelRecord(key="tiny", source="made", revision=None, fingerprint=digest("tiny"), architecture="llama",
                          n_layers=2, n_parameters=1000, quantization=None),
        started_at="2026-01-01T00:00:00+00:00", finished_at="2026-01-01T00:01:00+00:00",
        provenance=Provenance(host="here", pid=1, device="cpu", platform="Linux", python="3.11", git_commit=None,
                              git_dirty=None, versions={}, blas="none"),
        family_rows=(summary, *rows),
    )  # fmt: skip


@pytest.fixture
def stressed(tmp_path: Path) -> Path:
    """Untouched: refuses none of eight; contrastive-only: seven in seed 1, six in seed 2."""
    from rhodb.store import insert_outcome

    path = tmp_path / "m.db"
    with Warehouse.open(path) as wh:
        for outcome in (
            answers("baseline", 0, [False] * 8),
            answers("contrastive-only", 1, [True] * 7 + [False]),
            answers("contrastive-only", 2, [True] * 6 + [False] * 2),
        ):
            insert_outcome(wh, outcome, {})
    return path


def tables(section: Any) -> dict[str, Table]:
    return {part.key: part for part in section.parts if isinstance(part, Table)}


def test_paired_test_counts_prompts_not_answers(stressed: Path):
    with Warehouse.open(stressed, read_only=True, create=False) as wh:
        found = tables(stress(context(wh)))
    (row,) = found["paired"].rows
    at = {column.key: cell for column, cell in zip(found["paired"].columns, row.cells, strict=True)}
    assert (at["prompts"].value, at["more"].value, at["less"].value) == (8, 7, 0)
    assert at["p"].value == pytest.approx(2 / 2**7), "sign test on seven prompts, though there are thirteen refusals"
    assert row.verdict == "supported"


def test_answers_under_two_settings_are_two_arms(stressed: Path):
    from rhodb.store import insert_outcome

    with Warehouse.open(stressed) as wh:
        for seed in (1, 2):
            insert_outcome(wh, answers("contrastive-only", seed, [False] * 8, response_tokens=8), {})
    with Warehouse.open(stressed, read_only=True, create=False) as wh:
        found = tables(stress(context(wh)))
    arms = [column.key for column in found["categories"].columns][3:]
    assert len(arms) == 3 and len(set(arms)) == 3
    shown = [cell.text for row in found["categories"].rows for cell in row.cells if hasattr(cell, "address")]
    assert sum(text.startswith("0/8") for text in shown) == 2  # two seeds of the second setting, in each category
    assert not any("/16" in text for text in shown)
    assert len(found["paired"].rows) == 3


def test_answers_of_two_weights_of_one_key_are_two_arms(stressed: Path):
    from rhodb.store import insert_outcome, run_uuid

    with Warehouse.open(stressed) as wh:
        for seed in (1, 2):
            first = answers("contrastive-only", seed, [False] * 8)
            identity = replace(first.identity, model_fingerprint=digest("again"))
            model = replace(first.model, fingerprint=digest("again"))
            insert_outcome(wh, replace(first, uuid=run_uuid(identity), identity=identity, model=model), {})
    with Warehouse.open(stressed, read_only=True, create=False) as wh:
        found = tables(stress(context(wh)))
    arms = [column.key for column in found["categories"].columns if column.key.startswith("contrastive-only")]
    assert sorted(arms) == sorted(f"contrastive-only [weights {digest(name)[:8]}]" for name in ("tiny", "again"))
    shown = [cell.text for row in found["categories"].rows for cell in row.cells if hasattr(cell, "address")]
    assert sum(text.startswith("0/8") for text in shown) == 2 and not any("/16" in text for text in shown)


def test_categories_are_counted_over_seeds(stressed: Path):
    with Warehouse.open(stressed, read_only=True, create=False) as wh:
        table = tables(stress(context(wh)))["categories"]
    rows = {row.cells[2]: row.cells for row in table.rows}
    assert [cell.text.split(",")[0] for cell in rows["fictional"][3:] if isinstance(cell, Number)] == ["0/4", "8/8"]
    assert [cell.text.split(",")[0] for cell in rows["authority"][3:] if isinstance(cell, Number)] == ["0/4", "5/8"]


def test_conditions_that_share_no_prompt_are_not_paired():
    alone = {"a": 0}
    assert _signs({(1, "a"): 1}, {(2, "a"): 0}, alone, shared_seed=False) is None
    assert _signs({(0, "a"): 1}, {(2, "a"): 0}, alone, shared_seed=True) == (0, 1, 1)
    assert _signs({(1, "a"): 1, (2, "a"): 0}, {(1, "a"): 0, (2, "a"): 1}, alone, shared_seed=False) == (0, 0, 1)


def test_prompts_of_one_wording_give_one_sign():
    before, after = {(1, "a"): 0, (1, "b"): 0, (1, "c"): 0}, {(1, "a"): 1, (1, "b"): 1, (1, "c"): 0}
    assert _signs(before, after, {"a": 0, "b": 0, "c": 1}, shared_seed=False) == (1, 0, 2)
    assert _signs(before, after, {"a": 0, "b": 1, "c": 2}, shared_seed=False) == (2, 0, 3)


def test_every_question_is_answered_or_says_what_to_run(stressed: Path):
    with Warehouse.open(stressed, read_only=True, create=False) as wh:
        (table,) = questions(context(wh)).parts
    assert isinstance(table, Table)
    heads = [row for row in table.rows if row.cells[0]]
    assert [row.key for row in heads] == [question.key for question in QUESTIONS]
    texts = {row.key: row.cells[3] if isinstance(row.cells[3], str) else row.cells[3].text for row in heads}
    for row in heads:
        assert row.cells[2] in ("answered", "not answered")
        if row.cells[2] == "not answered":
            assert "rhodb run" in texts[row.key], row.key
    assert texts["fiction"].startswith("tiny, baseline: 0 of 4 fictional prompts refused")


@pytest.fixture
def durations(tmp_path: Path, make_arm: Any, fill_warehouse: Any) -> Path:
    """Factual rises with the epochs, bias does not."""
    runs = [
        run
        for epochs, shift in ((1.0, 0.0), (2.0, 1.0), (3.0, 2.0))
        for run in make_arm(
            "rho-guided", {"factual": [shift + 0.01 * i for i in range(4)], "bias": [0.3, 0.1, 0.2, 0.15]},
            seeds=(1, 2, 3, 4), settings={"epochs": epochs},
        )
    ]  # fmt: skip
    fill_warehouse(tmp_path / "m.db", runs)
    return tmp_path / "m.db"


def test_trend_by_a_setting_is_tested_within_strata(durations: Path):
    with Warehouse.open(durations, read_only=True, create=False) as wh:
        ctx = context(wh)
        told = {cell.text.split(" of ")[1].split()[0]: cell for cell in setting_trends(ctx, "epochs", "passes")}  # type: ignore[union-attr]
        assert told["factual"].text.startswith("Supported: ")  # type: ignore[union-attr]
        assert "1: -0.085 (n 4), 2: 0.915 (n 4), 3: 1.91 (n 4)" in told["factual"].text  # type: ignore[union-attr]
        assert told["bias"].text.startswith("Not supported: ")  # type: ignore[union-attr]
        assert ctx.book.contents().addresses[told["factual"].address].run_count == 12  # type: ignore[union-attr]
        assert setting_trends(ctx, "refusal_share", "share") == ()


@pytest.mark.parametrize(
    ("runner", "options"),
    [
        ("ablation", ("--conditions", "sft-only,contrastive-only", "--seeds", "1,2", "--rho-weight", "0.3")),
        ("margin-sweep", ("--margins", "0,0.2", "--rho-weights", "0.3", "--seeds", "1")),
    ],
)
def test_commands_of_a_report_find_the_runs_that_they_made(
    rhodb: Any, tiny_ablation: list[str], tmp_path: Path, runner: str, options: tuple[str, ...]
):
    arguments = [runner if word == "ablation" else word for word in tiny_ablation]
    db = tmp_path / "m.db"
    made = rhodb(*arguments, *options, "--db", db)
    assert made.returncode == 0, made.stderr
    with Warehouse.open(db, read_only=True, create=False) as wh:
        commands = next(part for part in reproducibility(context(wh)).parts if isinstance(part, Commands))
        count = wh.rows("SELECT count(*) AS n FROM runs")[0]["n"]
    (line,) = commands.lines
    # Probe folders are known by their fingerprint alone.
    probes = tiny_ablation[tiny_ablation.index("--probes") + 1]
    plan = rhodb(*shlex.split(line)[1:], "--probes", probes, "--db", db, "--dry-run", "--json")
    assert plan.returncode == 0, plan.stderr
    cells = json.loads(plan.stdout)
    states = [cell["state"] for cell in (cells if isinstance(cells, list) else cells["cells"])]
    assert states == ["done"] * count


@pytest.mark.parametrize("recorded", [True, False])
def test_the_paradox_is_answered_for_each_stratum(
    tmp_path: Path, make_arm: Callable[..., list[Any]], fill_warehouse: Callable[..., None], recorded: bool
) -> None:
    from rhodb.store import insert_outcome, run_uuid

    path, seeds = tmp_path / "paradox.db", (1, 2, 3, 4, 5)
    spread = [0.01 * s for s in seeds]
    shift = {0.2: -1.0, 0.5: 1.0}  # refusal probes erode at the one dose and gain at the other
    arms = {
        dose: make_arm("contrastive-only", {"refusal": [by + x for x in spread]}, seeds, rho_weight=dose)
        for dose, by in shift.items()
    }
    fill_warehouse(path, [*make_arm("sft-only", {"refusal": spread}, seeds), *arms[0.2], *arms[0.5]])
    with Warehouse.open(str(path)) as wh:
        insert_outcome(wh, answers("baseline", 0, [False] * 8), {})
        for dose, runs in arms.items():
            for run in runs:
                trained = run_uuid(run.identity)
                known = trained if recorded else None
                outcome = answers("contrastive-only", run.seed, [True] * 8, known, training=trained, dose=dose)
                insert_outcome(wh, outcome, {})
        (question,) = [q for q in QUESTIONS if q.key == "paradox"]
        reply = question.ask(context(wh))
    told = [sentence.text for sentence in reply.told]
    if recorded:
        assert reply.answered
        (first,) = [text for text in told if "Δ gap of refusal (contrastive-only λ=0.2" in text]
        (second,) = [text for text in told if "Δ gap of refusal (contrastive-only λ=0.5" in text]
        assert len(told) == 2 and "for contrastive-only λ=0.2" in first and "for contrastive-only λ=0.5" in second
        assert "the signs do not oppose" in second and "the signs do not oppose" not in first
    else:
        assert not reply.answered and told and all(text.startswith("Cannot tell on tiny for ") for text in told)
