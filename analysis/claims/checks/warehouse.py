"""Checks of a user's own claims: a SELECT over the warehouse, or a study's quantity or finding."""

from typing import TYPE_CHECKING, Any

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.expression import MissingInputError
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Check
from rhodb.errors import InputError

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse

NOT_SELECTORS = frozenset({"study", "statistic", "metric", "split", "needs", "inputs"})


def _warehouse(inputs: Inputs) -> "Warehouse":
    if inputs.wh is None:
        raise MissingInputError("a warehouse (--db)")
    return inputs.wh


def sql(inputs: Inputs, claim: Claim) -> Check:
    """`sql=SELECT ...` or `saved=NAME`, narrowed to `column` and `where`; `p_NAME=VALUE` are its parameters."""
    from rhodb.adhoc import ask, parameter_value
    from rhodb.queries import saved

    wh = _warehouse(inputs)
    if ("sql" in claim.parameters) == ("saved" in claim.parameters):
        raise InputError("checker sql needs one of sql=SELECT ... and saved=NAME")
    given = {name[2:]: parameter_value(text) for name, text in claim.parameters.items() if name.startswith("p_")}
    if "saved" in claim.parameters:
        query = saved(claim.parameters["saved"])
        statement, values = query.sql.rstrip(";"), {n: parameter_value(v) for n, v in query.defaults.items()} | given
    else:
        statement, values = claim.parameters["sql"], given
    column, where = claim.parameters.get("column", "*"), claim.parameters.get("where")
    if column != "*" or where is not None:
        statement = f"SELECT {column} FROM (\n{statement}\n) AS q WHERE {where or '1 = 1'}"
    found = ask(wh.location, statement, values, limit=2)
    if len(found.rows) != 1 or len(found.columns) != 1 or found.more:
        raise InputError(
            f"the query gives {len(found.rows)}{' or more' if found.more else ''} rows of "
            f"{len(found.columns)} columns; it "
            "has to give one number: narrow it with where=... and column=..."
        )
    value = found.rows[0][0]
    if value is None:
        return Check(value=None, needs="runs that the query finds (it gives NULL)", method=statement)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"the query gives {value!r}, which is no number")
    return Check(
        value=float(value), method=statement, of_warehouse=True,
        numbers={n: float(v) for n, v in values.items() if _is_number(v)},
    )  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def study(inputs: Inputs, claim: Claim) -> Check:
    """`study=NAME` with selectors (behavior=..., a=..., name=...) and `statistic` value, low, high, p or p_adjusted."""
    from analysis.answers import AnswerOptions, AnswerStudy
    from analysis.registry import load_study
    from analysis.study import Study, StudyOptions

    wh, name = _warehouse(inputs), params.text(claim, "study")
    one = load_study(name)
    metrics, split = (params.text(claim, "metric", "gap"),), params.text(claim, "split", "eval")
    wanted = {key: value for key, value in claim.parameters.items() if key not in NOT_SELECTORS}
    if isinstance(one, AnswerStudy):
        source = params.text(claim, "inputs", "auto")
        answer = one.run(wh, AnswerOptions(inputs=source, metrics=metrics, split=split))
        rows: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...], str]] = [
            ({"group": q.group, "name": q.name, "about": q.about},
             {"value": q.value, "low": q.low, "high": q.high}, q.inputs, q.method)
            for q in answer.quantities
        ]  # fmt: skip
    elif isinstance(one, Study):
        found = one.run(wh, StudyOptions(metrics=metrics, split=split)).findings
        rows = [
            (dict(f.about), {"value": f.effect.value, "low": f.effect.low, "high": f.effect.high, "p": f.p,
                             "p_adjusted": f.p_adjusted}, f.evidence.runs, f.evidence.method)
            for f in found
        ]  # fmt: skip
    else:
        raise InputError(f"study {name} gives tables: check them with checker sql")
    return _chosen(name, rows, wanted, params.text(claim, "statistic", "value"))


def _chosen(
    name: str,
    rows: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...], str]],
    wanted: dict[str, str],
    statistic: str,
) -> Check:
    """The statistic of the one row that fits the selectors."""
    unknown = [key for key in wanted if rows and not any(key in about for about, *_ in rows)]
    if unknown:
        known = sorted({key for about, *_ in rows for key in about})
        raise InputError(f"study {name} knows no {', '.join(unknown)}; known: {', '.join(known)}")
    fits = [row for row in rows if all(str(row[0].get(key)) == value for key, value in wanted.items())]
    if not fits:
        return Check(value=None, needs=f"runs from which study {name} makes such a finding")
    if len(fits) > 1:
        differing = sorted({key for about, *_ in fits for key in about if len({str(a.get(key)) for a, *_ in fits}) > 1})
        raise InputError(f"{len(fits)} findings of study {name} fit: narrow them by {', '.join(differing)}")
    _, values, sources, method = fits[0]
    if statistic not in values:
        raise InputError(f"unknown statistic {statistic!r}; known: {', '.join(values)}")
    numbers = {key: float(value) for key, value in values.items() if value is not None}
    value = values[statistic]
    needs = "" if value is not None else f"runs that give study {name} this {statistic}"
    return Check(
        value=value, needs=needs, numbers=numbers, inputs=tuple(sources), method=method, of_warehouse=True
    )  # fmt: skip
