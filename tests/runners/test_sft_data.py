"""SFT texts: shares, sources, the training split only, and user files."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rhodb.errors import InputError
from runners.probes import load_probe_sets
from runners.sft_data import REFUSALS, Instruction, SftPools, build_pools, draw, read_instructions

TRAPS = ("factual", "toxicity", "sycophancy", "bias")


@pytest.fixture(scope="module")
def sets():
    return load_probe_sets()


@pytest.fixture(scope="module")
def pools(sets):
    return build_pools(sets, split="hash", trap_behaviors=TRAPS, data=None)


def test_no_probe_of_the_eval_split_is_trained_on(sets, pools):
    held_out = {p.positive for s in sets for p in s.probes if p.split == "eval"}
    seen = {t.response for t in pools.traps} | {f"{t.instruction}\n{t.response}" for t in pools.traps}
    trained = {p.positive for s in sets for p in s.probes if p.split == "train"}
    assert not (seen & held_out) - trained  # a few probes of both splits share their text (bench, factual)
    everything = build_pools(sets, split="none", trap_behaviors=TRAPS, data=None)
    assert len(everything.traps) > 1.8 * len(pools.traps)


def test_the_shares_are_kept_and_texts_repeat_evenly(pools):
    texts = draw(pools, size=1000, trap_share=0.2, refusal_share=0.25, rng=np.random.default_rng(0))
    refused = [t for t in texts if t.response in REFUSALS]
    assert len(texts) == 1000
    assert len(refused) == 200
    assert len({(t.instruction, t.response) for t in texts[:200]}) == 200
    counts = [texts.count(t) for t in pools.general]
    assert max(counts) - min(counts) <= 1


def test_worked_problems_read_as_text(pools):
    problems = [t for t in pools.general if "The answer is" in t.response]
    assert len(problems) > 40
    assert not any("<<" in t.response or "####" in t.response for t in problems)


def test_draw_depends_on_the_generator_alone(pools):
    a, b, c = (
        draw(pools, size=50, trap_share=0.2, refusal_share=0.1, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert a == b != c


def test_an_empty_pool_is_named():
    pools = SftPools(traps=(), general=(Instruction(instruction="a", response="b"),), refusals=())
    with pytest.raises(InputError, match="no traps"):
        draw(pools, size=10, trap_share=0.2, refusal_share=0, rng=np.random.default_rng(0))
    assert len(draw(pools, size=10, trap_share=0, refusal_share=0, rng=np.random.default_rng(0))) == 10


ROWS = [
    {"instruction": "Add", "input": "1+1", "output": "2"},
    {"prompt": "p", "completion": "c"},
    {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]},
]
READ = [("Add\n1+1", "2"), ("p", "c"), ("u", "a")]


def test_jsonl_and_parquet_give_the_same_instructions(tmp_path):
    lines = tmp_path / "my 'data' ü.jsonl"
    lines.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n", encoding="utf-8")
    table = tmp_path / "data.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS[:1]), table)
    assert [(i.instruction, i.response) for i in read_instructions(str(lines))] == READ
    assert [(i.instruction, i.response) for i in read_instructions(str(table))] == READ[:1]


def test_a_data_set_in_the_local_hub_cache_is_read(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "datasets--lab--mine"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    (repo / "snapshots" / "abc").mkdir(parents=True)
    (repo / "snapshots" / "abc" / "train.jsonl").write_text(json.dumps(ROWS[1]) + "\n")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert [(i.instruction, i.response) for i in read_instructions("lab/mine")] == [("p", "c")]
    with pytest.raises(InputError, match="neither a file here nor a hub data set"):
        read_instructions("lab/other")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ('{"instruction": "a"}\n', "row 1"), ("", "hold no rows"), ("[1]\n", "row 1")],
)
def test_bad_files_are_named(tmp_path, text, message):
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_instructions(str(file))
    assert "bad.jsonl" in str(error.value)
