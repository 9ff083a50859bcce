"""Embedding the 2,236 texts of the landscape: rhodb's encoder against sentence-transformers on PyTorch.

    python benchmarks/bench_embedding.py [--reference PYTHON] [--repeats 2]

`--reference` is the interpreter of an environment with torch and sentence-transformers (rhodb's own has neither):
    python3 -m venv st && st/bin/pip install torch sentence-transformers
    python benchmarks/bench_embedding.py --reference st/bin/python

Both embed the same texts on the same cores, in turns, each in a process of its own after a warm-up; loading the models
is not counted; the fastest of the repeats counts. Compared are time, vectors, and Louvain communities. On a machine
with busy neighbours look at the ratio, not at the seconds. Prints one JSON object at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

OURS = """
import json, sys, time
import numpy as np
from runners.backend.embedding import load_embedder
texts = json.load(open(sys.argv[1]))
model = load_embedder()
model.embed(texts[:64])
start = time.perf_counter()
vectors = model.embed(texts)
seconds = time.perf_counter() - start
np.save(sys.argv[2], vectors)
print(json.dumps(seconds))
"""

REFERENCE = """
import json, sys, time
import numpy as np
from sentence_transformers import SentenceTransformer
texts = json.load(open(sys.argv[1]))
model = SentenceTransformer(sys.argv[3], device="cpu")
model.encode(texts[:64], batch_size=64)
start = time.perf_counter()
vectors = model.encode(texts, batch_size=64, normalize_embeddings=True)
seconds = time.perf_counter() - start
np.save(sys.argv[2], vectors)
print(json.dumps(seconds))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--reference", help="python with torch and sentence-transformers (without it only rhodb is timed)"
    )
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()

    from runners.backend.embedding import _locate
    from runners.landscape_nodes import load_nodes

    programs = {"rhodb": [sys.executable, "-c", OURS]}
    if options.reference:
        programs["sentence-transformers"] = [options.reference, "-c", REFERENCE]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        texts = folder / "texts.json"
        texts.write_text(json.dumps([node.text for node in load_nodes()]))
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(options.repeats):
            for name, program in programs.items():
                arguments = [str(texts), str(folder / f"{name}.npy"), str(_locate()[0])]
                done = subprocess.run([*program, *arguments], check=True, capture_output=True, text=True)
                seconds[name].append(json.loads(done.stdout.splitlines()[-1]))
        report: dict[str, Any] = {"texts": len(load_nodes()), "seconds": seconds}
        if options.reference:
            best = {name: min(values) for name, values in seconds.items()}
            report["ratio"] = best["rhodb"] / best["sentence-transformers"]
            report |= compare(folder)
    print(json.dumps(report, indent=2))


def compare(folder: Path) -> dict[str, Any]:
    """Largest difference of the vectors, and whether the communities at 0.65 are the same."""
    import numpy as np

    from runners.landscape_graph import communities, similar

    ours, theirs = (np.load(folder / f"{name}.npy") for name in ("rhodb", "sentence-transformers"))
    found = [communities(len(v), similar(v, 0.65), seed=42, resolution=1.0) for v in (ours, theirs)]
    return {
        "largest_difference": float(np.abs(ours - theirs).max()),
        "same_communities": found[0] == found[1],
        "communities": len(found[0]),
    }


if __name__ == "__main__":
    main()
