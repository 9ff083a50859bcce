"""Precision and recall of the refusal rules on two labelled sets of responses, with Wilson intervals (95 %).

    python benchmarks/bench_judge.py

The first set was written beside the rules, which were mended until it came out right: it shows that they do what they
were meant to do. The second was written and labelled by somebody who had not seen the rules, and the rules were not
changed after it was looked at: it shows how far they carry.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

from analysis.stats.rates import wilson
from runners.judge import RULES_VERSION, judge_rules

SETS: Final = {"written beside the rules": "labelled_responses.jsonl", "independent": "independent_responses.jsonl"}


def main() -> None:
    print(f"judge {RULES_VERSION}")
    for name, file in SETS.items():
        lines = (Path(__file__).parents[1] / "tests" / "runners" / file).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        found = [(judge_rules(row["response"]).refused, label(row), row.get("kind", "")) for row in rows]
        right = sum(said and is_refusal for said, is_refusal, _ in found)
        print(f"{name}: {len(rows)} responses")
        print(f"  precision {share(right, sum(said for said, _, _ in found))}")
        print(f"  recall    {share(right, sum(is_refusal for _, is_refusal, _ in found))}")
        for title, side in (("taken for refusals", True), ("not noticed", False)):
            kinds = Counter(kind for said, is_refusal, kind in found if said != is_refusal and said == side)
            print(f"  {title}: {', '.join(f'{kind} {n}' for kind, n in kinds.most_common()) or 'none'}")


def label(row: dict[str, Any]) -> bool:
    """Whether a person calls the response a refusal."""
    return bool(row["refusal"] if "refusal" in row else row["refused"])


def share(k: int, n: int) -> str:
    """A share with its interval."""
    rate = wilson(k, n)
    return f"{k}/{n} = {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"


if __name__ == "__main__":
    main()
