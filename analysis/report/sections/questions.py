"""The notes' open questions, each answered by computation from what this warehouse holds, or by what to run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from analysis.findings import Finding
from analysis.looks import interval_text
from analysis.query import Query, read_sql
from analysis.render.cells import estimate
from analysis.report.addresses import equals
from analysis.report.context import Context
from analysis.report.document import Cell, Column, Part, Row, Section, Sentence, Table
from analysis.report.sections.answers import folded
from analysis.report.sections.findings import address_of
from analysis.report.sections.stress import LABELS, arm_names, arm_of, jailbreak_rates
from analysis.report.sections.trends import setting_trends
from analysis.stats.rates import wilson
from rhodb.errors import RhodbError

LARGE = 70e9
"""Parameters."""
MOST_TOLD = 5
"""Sentences of one answer."""
CEILING = 0.95
"""Share of pairs in the right order from which little is left to gain."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the warehouse says to a question."""

    answered: bool
    told: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One of the notes' open questions."""

    key: str
    text: str
    ask: Callable[[Context], Reply]


def questions(ctx: Context) -> Section:
    """All of them."""
    rows = []
    for number, question in enumerate(QUESTIONS, 1):
        try:
            reply = question.ask(ctx)
        except RhodbError as error:
            reply = not_answered(str(error))
        status = "answered" if reply.answered else "not answered"
        for part, told in enumerate(reply.told, 1):
            name = question.key if part == 1 else f"{question.key} #{part}"
            head = (str(number), question.text, status) if part == 1 else ("", "", "")
            rows.append(Row(key=name, cells=(*head, told)))
    columns = (
        Column(key="number", title="#"), Column(key="question", title="question"),
        Column(key="status", title="status"), Column(key="answer", title="what this warehouse says"),
    )  # fmt: skip
    table: Part = Table(key="questions", title="Open questions of the notes", columns=columns, rows=tuple(rows))
    return Section(
        key="questions", title="Open questions",
        intro="Answered from this warehouse's own runs where it has them; a question stays open where it has not.",
        parts=(table,),
    )  # fmt: skip


def not_answered(why: str) -> Reply:
    return Reply(answered=False, told=(f"Not answered: {why}",))


def gamma_sweep(ctx: Context) -> Reply:
    """1. Is γ = 0.1 optimal?"""
    try:
        answer = ctx.answer("gamma")
    except RhodbError:  # neither own runs nor published figures
        answer = None
    if answer is None or answer.inputs != "db":
        return not_answered(
            "no runs at several margins here: run `rhodb run margin-sweep --margins 0,0.02,0.03,0.05,0.1 "
            "--seeds 42,123,456,789,1337`"
        )
    address = ctx.book.address(
        "quantity", answer.query, pick="conclusions of study gamma", command=ctx.command("gamma", 0)
    )
    conclusions = folded(answer.conclusions)
    told: list[Cell] = [Sentence(text=text, address=address) for text in conclusions[:MOST_TOLD]]
    more = len(conclusions) - MOST_TOLD
    return Reply(answered=True, told=(*told, *([f"... and {more} more in the section on γ*."] if more > 0 else [])))


def scale(ctx: Context) -> Reply:
    """2. Does it hold at 70B and more?"""
    query = ctx.query("report_trained_models")
    rows = ctx.rows(query)
    known = [row for row in rows if row["n_parameters"]]
    large = [row for row in known if row["n_parameters"] >= LARGE]
    if large:
        names = {row["model"] for row in large}
        result = ctx.study("ablation")
        found = [f for f in result.findings if f.about["model"] in names]
        return Reply(
            answered=bool(found),
            told=tuple(Sentence(text=f.sentence, address=address_of(ctx, result, f)) for f in found[:8]),
        )
    if not known:
        return not_answered("no trained model of known size: `rhodb run ablation --model MODEL` with one of 70B")
    address = ctx.book.address("row", query, narrow=[equals("model", known[0]["model"])], pick="column n_parameters")
    size = f"{known[0]['n_parameters'] / 1e6:,.0f} million parameters"
    text = (
        f"Not answered: the largest model trained here, {known[0]['model']}, has {size}; `rhodb run ablation --model "
        "MODEL` with one of 70 billion."
    )
    return Reply(answered=False, told=(Sentence(text=text, address=address),))


def paradox(ctx: Context) -> Reply:
    """3. Does contrastive-only erode the refusal probes while the model refuses more jailbreaks?"""
    means, rates = ctx.study("ablation"), ctx.study("stress")
    probes = [f for f in means.findings if _of(f, "refusal", "contrastive-only")]
    answers = [f for f in rates.findings if _jailbreaks(f) and f.tests[0].p is not None]
    shared = {f.about["model"] for f in probes} & {f.about["model"] for f in answers}
    if not shared:
        return not_answered(
            "it takes contrastive-only training and its stress test on one model: run `rhodb run stress-test "
            "--conditions baseline,sft-only,contrastive-only,rho-guided --seeds 42,123,456,789,1337`"
        )
    told: list[Cell] = []
    answered = False
    trained = {row["run"]: row["training_run"] for row in ctx.rows(ctx.query("report_stress"))}
    for model in sorted(shared):
        own, theirs = ([f for f in found if f.about["model"] == model] for found in (probes, answers))
        pairs = same_stratum(own, theirs, trained)
        told += [Sentence(text=_paradox_text(a, b), address=address_of(ctx, rates, b)) for a, b in pairs]
        matched = [b for _, b in pairs]
        told += [
            Sentence(
                text=f"Cannot tell on {model} for {b.about['stratum']}: no scores of the runs that answered are "
                f"compared here (probes stand there for {'; '.join(a.about['stratum'] for a in own)}).",
                address=address_of(ctx, rates, b),
            )
            for b in theirs
            if b not in matched
        ]
        answered = answered or bool(pairs)
    return Reply(answered=answered, told=tuple(told))


def same_stratum(
    probes: Sequence[Finding], answers: Sequence[Finding], trained: Mapping[str, str | None]
) -> list[tuple[Finding, Finding]]:
    """Findings about scores and about answers of the same trained runs.

    `trained`: stress run -> the run that trained its weights. Where none is recorded (files of other programs), one
    stratum of scores and one of answers belong together, and of several no one can say which.
    """
    pairs = []
    for b in answers:
        behind = {trained.get(run) for run in b.evidence.runs} - {None}
        pairs += [(a, b) for a in probes if behind & set(a.evidence.runs)]
    known = any(trained.get(run) for b in answers for run in b.evidence.runs)
    strata = [{f.about["stratum"] for f in found} for found in (probes, answers)]
    if not known and all(len(found) == 1 for found in strata):
        return [(a, b) for b in answers for a in probes]
    return pairs


def _paradox_text(a: Finding, b: Finding) -> str:
    """Whether refusal probes (a) and refusals of jailbreaks (b) come apart in one stratum, in words."""
    opposite = (a.effect.value or 0) < 0 < (b.effect.value or 0)
    sure = a.verdict == b.verdict == "supported"
    verdict = "The paradox shows" if opposite and sure else "The paradox does not show"
    why = "" if opposite and sure else (
        ": the signs do not oppose" if not opposite else ": the signs oppose, but not both are more than noise"
    )  # fmt: skip
    return (
        f"{verdict} on {a.about['model']} for {b.about['stratum']}{why}. Δ {a.about['metric']} of refusal "
        f"({a.about['stratum']}) {interval_text(a.effect, a.unit)} ({a.verdict}); jailbreaks refused against the "
        f"untouched model {interval_text(b.effect)} ({b.verdict})."
    )


def _of(finding: Finding, behavior: str, condition: str) -> bool:
    about = finding.about
    return about.get("behavior") == behavior and about.get("stratum", "").startswith(condition)


def _jailbreaks(finding: Finding) -> bool:
    """Jailbreaks that contrastive-only refuses, of all categories, against the untouched model."""
    about = finding.about
    return (
        about["detector"] == "refusal rate"
        and about["metric"].startswith("jailbreak")
        and about["stratum"].startswith("contrastive-only")
        and " against " not in about["stratum"].removesuffix(" against baseline")
    )


def mixture(ctx: Context) -> Reply:
    """4. Can refusals among the instructions titrate the buffer?"""
    told = setting_trends(ctx, "refusal_share", "share of refusals", behaviors=("refusal",))
    return Reply(answered=True, told=told) if told else not_answered(
        "all runs share one mixture: run `rhodb run mixture --refusal-shares 0,0.1,0.25,0.5 --seeds 42,123,456`"
    )  # fmt: skip


def sycophancy(ctx: Context) -> Reply:
    """5. Why does sycophancy hardly respond?"""
    query = Query(sql=read_sql("report_ceiling"), parameters={"behavior": "sycophancy"})
    told: list[Cell] = []
    for row in ctx.rows(query):
        if row["split"] != ctx.options.split or ctx.options.model not in (None, row["model"]):
            continue
        address = ctx.book.address("row", query, runs=[row["run"]], narrow=[equals("run", row["run"]),
                                   equals("split", row["split"])], pick="column value")  # fmt: skip
        verdict = "at a ceiling" if row["value"] >= CEILING else "not at a ceiling"
        told.append(
            Sentence(
                text=f"{row['model']}, untouched: {100 * row['value']:.1f} % of {row['n']} sycophancy pairs "
                f"({row['split']}) are ordered rightly: {verdict}, {100 * (1 - row['value']):.1f} % are left to gain.",
                address=address,
            )
        )  # fmt: skip
    result = ctx.study("anomalies")
    spread = [f for f in result.findings if f.about["detector"] == "variance" and "sycophancy" in f.about["behavior"]]
    told += [Sentence(text=f.sentence, address=address_of(ctx, result, f)) for f in spread[:4]]
    return Reply(answered=True, told=tuple(told)) if told else not_answered(
        "no untouched model has a pair accuracy of sycophancy here: `rhodb run ablation` scores it"
    )  # fmt: skip


def duration(ctx: Context) -> Reply:
    """6. Does longer training amplify or saturate?"""
    told = setting_trends(ctx, "epochs", "passes over the texts")
    return Reply(answered=True, told=told) if told else not_answered(
        "all runs train equally long: run `rhodb run duration --epochs 1,2,3 --seeds 42,123,456`"
    )  # fmt: skip


def multi_seed(ctx: Context) -> Reply:
    """7. Is the refusal advantage of contrastive-only more than noise?"""
    result = ctx.study("stress")
    facts = ctx.book.facts
    told: list[Cell] = []
    for finding in result.findings:
        if not _jailbreaks(finding):
            continue
        own = [
            run for run in finding.evidence.runs if ctx.stress_conditions().get(run, ("", ""))[1] == "contrastive-only"
        ]
        seeds = len({facts[run].seed for run in own})
        if seeds > 1:
            told.append(
                Sentence(text=f"{seeds} seeds. {finding.sentence}", address=address_of(ctx, result, finding))
            )  # fmt: skip
    return Reply(answered=True, told=tuple(told)) if told else not_answered(
        "fewer than two seeds of contrastive-only were stress-tested: run `rhodb run stress-test --seeds "
        "42,123,456,789,1337`"
    )  # fmt: skip


def fiction(ctx: Context) -> Reply:
    """8. Does fictional framing defeat every condition?"""
    query = ctx.query("report_stress_rates")
    told: list[Cell] = []
    names = arm_names(ctx)
    for row in jailbreak_rates(ctx):
        if row["category"] != "fictional":
            continue
        rate = wilson(int(row["refused"]), int(row["answers"]))
        address = ctx.book.address(
            "row", query, pick="refused / answers", method="Wilson score interval",
            narrow=[equals(c, row[c]) for c in LABELS],
        )  # fmt: skip
        text = (
            f"{row['model']}, {names[arm_of(row)]}: {row['refused']} of {row['answers']} fictional prompts refused, "
            f"{estimate(rate)} (seeds: {row['seeds']})."
        )
        told.append(Sentence(text=text, address=address))
    missing = (
        "Whether training data with fictional frames helps is not answered: run `rhodb run stress-test --sft-data "
        "FILE` with such data."
    )
    return Reply(answered=True, told=(*told, missing)) if told else not_answered(
        "no judged answers by category are stored: run `rhodb run stress-test --seeds 42,123,456`"
    )  # fmt: skip


QUESTIONS: Sequence[Question] = (
    Question(key="gamma", text="γ sweep: is 0.1 optimal?", ask=gamma_sweep),
    Question(key="scale", text="Scale: does it happen at 70B and more, and does the fix still work?", ask=scale),
    Question(
        key="paradox", text="Refusal paradox: do probes and what the model does come apart, at scale and over seeds?",
        ask=paradox,
    ),
    Question(key="mixture", text="Data mixture: can refusals among the data titrate the buffer?", ask=mixture),
    Question(key="sycophancy", text="Sycophancy hardly responds: measurement, immunity, or ceiling?", ask=sycophancy),
    Question(key="duration", text="Duration: does longer training amplify or saturate?", ask=duration),
    Question(key="seeds", text="Multi-seed stress test: is contrastive-only's advantage real?", ask=multi_seed),
    Question(key="fiction", text="Fictional framing: a limit of all conditions?", ask=fiction),
)  # fmt: skip
