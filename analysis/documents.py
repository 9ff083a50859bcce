"""Results as JSON documents and back, and what differs between two of them."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from analysis.answers import Answer, Published, Quantity
from analysis.findings import Estimate, Evidence, Finding, Group, Result, Robustness, Test
from analysis.landscape.result import Table, Tables
from analysis.query import Query

LOOK = ("detector", "model", "behavior", "metric", "split", "stratum", "a", "b")
"""What makes two findings of two results the same look."""
Row = dict[str, Any]
_CHANGES = ("verdict", "new", "gone", "moved")
"""In the order in which they are told."""


def plain(value: Any) -> Any:
    """A value as JSON gives it back: tuples are lists, keys are texts."""
    return json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False))


def read(text: str) -> Mapping[str, Any]:
    """The document in a text."""
    document: Mapping[str, Any] = json.loads(text)
    return document


def text_of(result: Result | Answer | Tables) -> str:
    """The document of a result; what figures are drawn from and functions are left out."""
    if isinstance(result, Result):
        return "".join(result.json_pieces())
    if isinstance(result, Answer):
        return json.dumps(result.to_json(), ensure_ascii=False, allow_nan=False)
    tables = [asdict(table) for table in result.tables]
    rest = {key: value for key, value in vars(result).items() if key not in ("tables", "drawing")}
    return json.dumps({**rest, "tables": tables}, ensure_ascii=False, allow_nan=False)


def result_of(document: Mapping[str, Any]) -> Result:
    """The inverse of `Result.to_json`."""
    query = Query(**document["query"])
    return Result(
        study=document["study"],
        options=document["options"],
        findings=tuple(_finding(entry, query) for entry in document["findings"]),
        looks=document["looks"],
        messages=tuple(document["messages"]),
        query=query,
        caption=document["caption"],
    )


def _finding(entry: Mapping[str, Any], query: Query) -> Finding:
    evidence = entry["evidence"]
    own = evidence.get("query")
    return Finding(
        number=entry["number"],
        about=entry["about"],
        unit=entry["unit"],
        groups=tuple(
            Group(
                label=g["label"],
                seeds=tuple(g["seeds"]),
                values=tuple(g["values"]),
                mean=g["mean"],
                sd=g["sd"],
                seeds_known=g.get("seeds_known", True),
            )
            for g in entry["groups"]
        ),
        effect=Estimate(**entry["effect"]),
        standardised=Estimate(**entry["standardised"]),
        tests=tuple(_test(test) for test in entry["tests"]),
        robustness=None if entry["robustness"] is None else Robustness(**entry["robustness"]),
        verdict=entry["verdict"],
        sentence=entry["sentence"],
        notes=tuple(entry["notes"]),
        evidence=Evidence(
            query=query if own is None else Query(**own),
            runs=tuple(evidence["runs"]),
            method=evidence["method"],
            reference=evidence["reference"],
        ),
    )


def _test(entry: Mapping[str, Any]) -> Test:
    effect = entry["effect"]
    return Test(**{**entry, "effect": None if effect is None else Estimate(**effect)})


def answer_of(document: Mapping[str, Any], narrow: Callable[[tuple[str, ...]], Query]) -> Answer:
    """The inverse of `Answer.to_json`; without a drawing."""
    return Answer(
        study=document["study"],
        inputs=document["inputs"],
        options=document["options"],
        given=tuple(document["given"]),
        quantities=tuple(_quantity(entry) for entry in document["quantities"]),
        conclusions=tuple(document["conclusions"]),
        messages=tuple(document["messages"]),
        query=Query(**document["query"]),
        narrow=narrow,
        caption=document["caption"],
    )


def _quantity(entry: Mapping[str, Any]) -> Quantity:
    rest = {key: value for key, value in entry.items() if key not in ("number", "agrees")}
    printed = entry["published"]
    return Quantity(
        **{**rest, "inputs": tuple(entry["inputs"]), "published": None if printed is None else Published(**printed)}
    )


def tables_of(document: Mapping[str, Any]) -> Tables:
    """The tables of a document; without a drawing."""
    return Tables(
        study=document["study"],
        options=document["options"],
        tables=tuple(
            Table(**{
                **entry, "rows": tuple(entry["rows"]), "runs": tuple(entry["runs"]),
                "queries": tuple(Query(**query) for query in entry["queries"]),
            })
            for entry in document["tables"]
        ),
        conclusions=tuple(document["conclusions"]),
        messages=tuple(document["messages"]),
    )  # fmt: skip


def moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[Row], int]:
    """What came, went, or changed from one document of a study to the next, and how many things were compared."""
    kinds = {"findings": _findings, "quantities": _quantities, "tables": _cells}
    entries = next(entries for key, entries in kinds.items() if key in new)
    before, after = (_apart(entries(document)) for document in (old, new))
    rows = []
    for place in dict.fromkeys([*before, *after]):
        was, now = before.get(place), after.get(place)
        if was != now:
            change = "new" if was is None else "gone" if now is None else "moved"
            if was and now and was.get("verdict") != now.get("verdict"):
                change = "verdict"
            sides = {f"{key}_{when}": side and side[key] for key in (was or now or {})
                     for when, side in (("before", was), ("now", now))}  # fmt: skip
            rows.append({"change": change, **{key: value for key, value in place if value}, **sides})
    return sorted(rows, key=lambda row: _CHANGES.index(row["change"])), len(after)


Entry = tuple[tuple[tuple[str, Any], ...], Row]
"""What something is about, as pairs of key and value, and what is compared of it."""


def _apart(entries: Iterator[Entry]) -> dict[tuple[tuple[str, Any], ...], Row]:
    """Entries by what they are about; where several are about the same, the later ones are numbered."""
    found: dict[tuple[tuple[str, Any], ...], Row] = {}
    times: Counter[tuple[tuple[str, Any], ...]] = Counter()
    for place, entry in entries:
        times[place] += 1
        found[place if times[place] == 1 else (*place, ("number", times[place]))] = entry
    return found


def _findings(document: Mapping[str, Any]) -> Iterator[Entry]:
    for entry in document["findings"]:
        place = tuple((key, entry["about"].get(key, "")) for key in LOOK)
        effect = entry["effect"]
        yield place, {
            "effect": effect["value"], "low": effect["low"], "high": effect["high"], "verdict": entry["verdict"]
        }  # fmt: skip


def _quantities(document: Mapping[str, Any]) -> Iterator[Entry]:
    for entry in document["quantities"]:
        place = tuple((key, entry[key]) for key in ("group", "name", "about"))
        yield place, {key: entry[key] for key in ("value", "low", "high", "kind")}


def _cells(document: Mapping[str, Any]) -> Iterator[Entry]:
    """Numbers and texts of tables, named by the first columns that tell the rows apart."""
    for table in document["tables"]:
        columns = list(table["columns"])
        heads = next(
            (
                k
                for k in range(1, len(columns))
                if len({_head(row, columns[:k]) for row in table["rows"]}) == len(table["rows"])
            ),
            1,
        )
        for row in table["rows"]:
            for column in columns[heads:]:
                place = (("table", table["name"]), ("row", _head(row, columns[:heads])), ("column", column))
                yield place, {"value": row.get(column)}


def _head(row: Mapping[str, Any], columns: list[str]) -> str:
    return ", ".join(str(row.get(column)) for column in columns)
