"""`rhodb claims`: the notes' claims and a user's own, each recomputed."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import CsvOption, DbOption, JsonOption, MarkdownOption, example, output_format
from rhodb.cli.output import console, doing, emit, emit_json, note

if TYPE_CHECKING:
    from analysis.claims import Claim, Verdict

app = make_app("Recompute the claims of a notebook: the notes', or those of your own draft.")

FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="CSV file of claims.  [default: the claims of the notes]")
]
SectionOption = Annotated[
    list[str] | None, typer.Option("--section", help="Only sections whose heading contains this; may be repeated.")
]
LIST_COLUMNS = ("id", "section", "subject", "statistic", "printed", "unit", "checker")
SHOWN = ("id", "subject", "statistic", "printed", "recomputed", "verdict")
WHOLE = ("id", "section", "subject", "statistic", "printed", "unit", "recomputed", "low", "high", "verdict", "text")


@app.command("list", **example("rhodb claims list", 'rhodb claims list --section "Loss Function" --json'))
def list_claims(
    file: FileOption = None,
    section: SectionOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """List claims: what was printed where, and which checker looks at it."""
    form = output_format(json=json, csv=csv, markdown=markdown)
    rows = [{column: getattr(claim, column) for column in LIST_COLUMNS} for claim in _claims(file, section)]
    emit(rows, format=form, columns=LIST_COLUMNS)


@app.command(
    **example(
        "rhodb claims verify",
        "rhodb claims verify --verdict inconsistent --verdict 'method unsound'",
        "rhodb claims verify --explain T1.ratio",
        "rhodb claims verify --file my_claims.csv --strict",
    )
)
def verify(
    file: FileOption = None,
    *,
    section: SectionOption = None,
    verdict: Annotated[
        list[str] | None, typer.Option("--verdict", help="Show only this verdict; may be repeated.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="ID", help="Everything about one claim: numbers, inputs, method.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 unless every claim is reproduced (or supported by own runs).")
    ] = False,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
    db: DbOption = None,
) -> None:
    """Recompute claims and say what became of each: reproduced, inconsistent, method unsound, ..."""
    form = output_format(json=json, csv=csv, markdown=markdown)
    wanted = _verdicts(verdict or [])
    claims = _claims(file, section)
    if explain is not None:
        claims = _one(claims, explain)
    found = _verify(claims, db)
    if explain is not None:
        _explain(found[0], form)
    else:
        _show([one for one in found if not wanted or one.verdict in wanted], found, form)
    failed = [one.id for one in found if not one.good]
    if strict and failed:
        note(
            f"{len(failed)} of {len(found)} claims are not reproduced: "
            f"{', '.join(failed[:10])}{' ...' if failed[10:] else ''}"
        )
        raise typer.Exit(1)


@app.command(
    **example(
        'rhodb claims add --file my_claims.csv --id table1.toxicity --section Results --subject "rho-guided, toxicity" '
        '--statistic "mean Δ" --value 0.116 --saved condition-means --column mean '
        "--where \"condition = 'rho-guided' AND behavior = 'toxicity'\"",
        "rhodb claims add --file my_claims.csv --id n.runs --section Methods --subject runs "
        "--statistic count --value 8 "
        "--sql \"SELECT count(*) FROM runs WHERE kind = 'alignment' AND state = 'done'\"",
        "rhodb claims add --file my_claims.csv --id notes.swing --section Related --subject bias --statistic swing "
        '--value 0.045 --expression "{arm/margin/0.1/0.2/bias/mean} - {arm/margin/0/0.2/bias/mean}"',
        "rhodb claims add --file my_claims.csv --id effect.refusal --section Results --subject refusal --statistic p "
        '--value "<0.05" --study effects --select behavior=refusal --select a=contrastive-only --select b=sft-only '
        "--select statistic=p_adjusted",
    )
)
def add(
    *,
    file: Annotated[Path, typer.Option("--file", "-f", help="CSV file to add to; it is created where it is missing.")],
    id_: Annotated[str, typer.Option("--id", help="Name of the claim, unique in the file.")],
    section: Annotated[str, typer.Option(help="Where it stands in your text.")],
    subject: Annotated[str, typer.Option(help="What it is about.")],
    statistic: Annotated[str, typer.Option(help="Which number of it.")],
    value: Annotated[str, typer.Option(help="The figure as printed (0.034), or a bound (<0.05).")],
    precision: Annotated[
        float | None, typer.Option(help="One unit of the last printed digit.  [default: from the value's digits]")
    ] = None,
    unit: Annotated[str, typer.Option(help="Unit, if any.")] = "",
    sql: Annotated[str | None, typer.Option("--sql", help="Checked by a SELECT that returns one number.")] = None,
    saved: Annotated[str | None, typer.Option("--saved", help="Checked by a saved query (rhodb sql --saved).")] = None,
    column: Annotated[str | None, typer.Option(help="Column of the query that holds the number.")] = None,
    where: Annotated[str | None, typer.Option(help="Condition that leaves one row of the query.")] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="Parameter of the query.")
    ] = None,
    expression: Annotated[
        str | None, typer.Option("--expression", help="Checked by arithmetic over {published/keys}.")
    ] = None,
    study: Annotated[str | None, typer.Option("--study", help="Checked by a finding or quantity of a study.")] = None,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", metavar="NAME=VALUE", help="Which finding: behavior=..., name=..., statistic=..."),
    ] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Verify the claim right away.")] = True,
    db: DbOption = None,
) -> None:
    """Add a claim of your own to a file, so that `rhodb claims verify --file FILE --strict` keeps it true."""
    from analysis.claims.claim import append_claim, printed_precision
    from rhodb.errors import InputError

    ways = {"--sql": sql, "--saved": saved, "--expression": expression, "--study": study}
    chosen = [name for name, given in ways.items() if given is not None]
    if len(chosen) != 1:
        raise InputError("say how the claim is checked: exactly one of --sql, --saved, --expression and --study")
    parameters = _parameters(sql, saved, column, where, param or [], expression, study, select or [])
    known = precision if precision is not None else printed_precision(value)
    checker = {"--sql": "sql", "--saved": "sql", "--expression": "expression", "--study": "study"}[chosen[0]]
    claim = append_claim(
        file,
        {"id": id_, "section": section, "subject": subject, "statistic": statistic, "value": value,
         "precision": "" if known is None else f"{known:g}", "unit": unit, "checker": checker,
         "parameters": parameters},
    )  # fmt: skip
    note(f"claim {claim.id} added to {file}")
    if check:
        found = _verify([claim], db)[0]
        console().print(f"{found.verdict}: {found.text}")


@app.command("checkers", **example("rhodb claims checkers"))
def checkers(json: JsonOption = False, csv: CsvOption = False, markdown: MarkdownOption = False) -> None:
    """List what can check a claim, and what a method can be challenged with."""
    from analysis.claims.registry import CHALLENGES, CHECKERS

    rows = [
        {"kind": kind, "name": name, "summary": summary}
        for kind, table in (("checker", CHECKERS), ("challenge", CHALLENGES))
        for name, (_, summary) in table.items()
    ]
    emit(rows, format=output_format(json=json, csv=csv, markdown=markdown))


def _parameters(
    sql: str | None,
    saved: str | None,
    column: str | None,
    where: str | None,
    param: Sequence[str],
    expression: str | None,
    study: str | None,
    select: Sequence[str],
) -> str:
    """The column `parameters` of a claim. Raises InputError for what a CSV cell cannot hold."""
    from rhodb.errors import InputError

    given: dict[str, str | None] = {
        "expr": expression, "saved": saved, "sql": sql, "column": column, "where": where, "study": study,
    }  # fmt: skip
    for entries, prefix, option in ((param, "p_", "--param"), (select, "", "--select")):
        for entry in entries:
            name, equals, value = entry.partition("=")
            if not equals or not name.isidentifier():
                raise InputError(f"{option} takes NAME=VALUE, got {entry!r}")
            given[prefix + name] = value
    for name, text in given.items():
        if text is not None and ";" in text:
            raise InputError(f"{name} must not contain a semicolon: it separates the parameters of a claim")
    return "; ".join(f"{name}={' '.join(text.split())}" for name, text in given.items() if text is not None)


def _claims(file: Path | None, section: Sequence[str] | None) -> "list[Claim]":
    from analysis.claims import read_claims
    from rhodb.errors import InputError

    claims = read_claims(file)
    kept = [c for c in claims if not section or any(part.lower() in c.section.lower() for part in section)]
    if claims and not kept:
        names = list(dict.fromkeys(claim.section for claim in claims))
        raise InputError(f"no section contains {' or '.join(section or ())!r}; there are: {'; '.join(names)}")
    return kept


def _one(claims: "list[Claim]", name: str) -> "list[Claim]":
    from difflib import get_close_matches

    from rhodb.errors import InputError

    kept = [claim for claim in claims if claim.id == name]
    if not kept:
        close = get_close_matches(name, [claim.id for claim in claims], n=5, cutoff=0.4)
        hint = f"; close to it: {', '.join(close)}" if close else ""
        raise InputError(f"there is no claim {name!r}{hint}; `rhodb claims list` lists them")
    return kept


def _verdicts(names: Sequence[str]) -> tuple[str, ...]:
    from analysis.claims import KINDS
    from rhodb.errors import UnknownNameError

    for name in names:
        if name not in KINDS:
            raise UnknownNameError("verdict", name, KINDS)
    return tuple(names)


def _verify(claims: "Sequence[Claim]", db: str | None) -> "tuple[Verdict, ...]":
    """Verdicts, with the warehouse where there is one. A warehouse that was named has to be there."""
    from analysis.claims import verify as verify_claims
    from rhodb.warehouse import Warehouse

    if db is None:
        peeked = Warehouse.peek(db)
        if peeked is None:
            with doing("recomputing the claims"):
                return verify_claims(None, claims)
        peeked.close()
    with Warehouse.open(db, create=False, read_only=True) as wh, doing("recomputing the claims"):
        return verify_claims(wh, claims)


def _show(shown: "Sequence[Verdict]", found: "Sequence[Verdict]", form: str) -> None:
    if form == "json":
        emit_json([one.to_json() for one in shown])
        return
    rows: list[dict[str, Any]] = [{column: getattr(one, column) for column in WHOLE} for one in shown]
    emit(rows, format=form, columns=SHOWN if form == "table" else WHOLE)
    if form == "table":
        counts = Counter(one.verdict for one in found)
        out = console()
        out.print(
            f"{len(found)} claim{'' if len(found) == 1 else 's'}: "
            + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
            + "."
        )
        out.print("Why: rhodb claims verify --explain ID, or --json, --csv, --markdown for every sentence.")


def _explain(one: "Verdict", form: str) -> None:
    if form == "json":
        emit_json(one.to_json())
        return
    lines = [
        f"{one.id}: {one.subject}, {one.statistic}",
        f"Section: {one.section}",
        f"Printed: {one.printed} {one.unit}".rstrip(),
        f"Verdict: {one.verdict}",
        one.text,
        *(f"Also: {remark}" for remark in one.remarks if remark not in one.text),
        f"Checker: {one.checker}; method: {one.method or '-'}",
        *((f"Reference: {one.reference}",) if one.reference else ()),
        *(f"  {name} = {value:.6g}" for name, value in one.numbers.items()),
        *(f"  {name} = {value:.6g}" for name, value in (one.own_runs.numbers.items() if one.own_runs else ())),
        *(("Inputs (rhodb sql \"SELECT * FROM published_values WHERE key = '...'\"):",) if one.inputs else ()),
        *(f"  {key} ({place})" for key, place in one.provenance.items()),
        *(("Runs:", *(f"  {run}" for run in one.own_runs.runs)) if one.own_runs and one.own_runs.runs else ()),
    ]
    typer.echo("\n".join(lines))
