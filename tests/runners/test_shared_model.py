"""Every runner that borrows the shared model gives it back bit for bit, whatever it did to it and however it ended."""

from pathlib import Path

import pytest
from adapter_samples import KINDS, make_base, save_adapter
from experiments import EXPERIMENTS, Silent
from tiny_model import save_tiny_model

from rhodb.rows import run_uuid
from runners.backend.models import load_model, shared_models
from runners.backend.weights import weights_digest
from runners.config import resolve
from runners.registry import RUNNERS, load_runner
from runners.rejudge import _model_of

_TRAINED = {"sft_size": "4", "seeds": "1"}
OPTIONS: dict[str, dict[str, str]] = EXPERIMENTS | {
    "ablation": {"conditions": "sft-only,rho-guided,contrastive-only,shuffled-pairs", **_TRAINED},
    "dose-response": {"rho_weights": "0.2", **_TRAINED},
    "margin-sweep": {"margins": "0.1", "rho_weights": "0.2", **_TRAINED},
    "mixture": {"refusal_shares": "0.1", "conditions": "rho-guided", **_TRAINED},
    "duration": {"epochs": "1", "conditions": "rho-guided", **_TRAINED},
    "stress-test": {"conditions": "baseline,sft-only", "response_tokens": "4", "judge": "logprob", **_TRAINED},
}
"""Runner -> a small form of it. One that is missing here is missed by the first test."""
BASES = {"plain": {}, "4-bit": {"bits": 4}}


class BrokenError(Exception):
    """Raised in the middle of a cell."""


class Breaking(Silent):
    """Ends a cell where it first reports."""

    def step(self, row, total):
        raise BrokenError

    def scored(self, done, total):
        raise BrokenError


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    folders = {name: root / name for name in BASES}
    for name, folder in folders.items():
        folder.mkdir()
        save_tiny_model(folder, make_base(**BASES[name]))
    return folders


def borrow(runner: str, options: dict[str, str], artefacts: Path) -> None:
    """Run every cell, each first broken and then whole, and compare the model's digest after each."""
    with shared_models():
        model = load_model(options["model"]).model
        before = weights_digest(model)
        declared = load_runner(runner)
        session = declared.prepare(resolve(declared.config, preset="quick", options=options))
        assert weights_digest(model) == before, "prepare"
        for cell in session.cells:
            folder = artefacts / run_uuid(cell.identity)
            with pytest.raises(BrokenError):
                session.execute(cell, folder, Breaking())
            assert weights_digest(model) == before, f"{cell.label}, broken"
            session.execute(cell, folder, Silent())
            assert weights_digest(model) == before, cell.label
        assert load_model(options["model"]).model is model


def test_every_runner_on_a_language_model_is_looked_at():
    assert OPTIONS.keys() == RUNNERS.keys() - {"landscape"}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("runner", sorted(OPTIONS.keys() - {"leaderboard"}))
def test_a_runner_gives_the_model_back(runner, base, bases, tiny_probes_folder, tmp_path):
    shared = {"model": str(bases[base]), "probes": str(tiny_probes_folder), "max_length": "64"}
    borrow(runner, shared | {"probes_per_behavior": "4"} | OPTIONS[runner], tmp_path)


@pytest.mark.parametrize(("base", "requantize"), [("plain", False), ("4-bit", False), ("4-bit", True)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_leaderboard_gives_it_back_after_every_kind_of_adapter(
    kind, base, requantize, bases, tiny_probes_folder, tmp_path
):
    trained_on = make_base() if kind == "full" else make_base(**BASES[base])
    adapter = save_adapter(tmp_path / "adapter", kind, base=trained_on)
    options = {
        **{"model": str(bases[base]), "probes": str(tiny_probes_folder), "max_length": "64"},
        **{"models": f"{bases[base]},{adapter}", "merge": "linear,dare-ties", "probes_per_behavior": "4"},
        "requantize": str(requantize).lower(),
    }
    borrow("leaderboard", options, tmp_path)


def test_judging_again_gives_it_back(bases, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", "lora", base=make_base())
    with shared_models():
        loaded = load_model(str(bases["plain"]))
        before = weights_digest(loaded.model)
        row = {"key": loaded.record.key, "fingerprint": loaded.record.fingerprint, "uuid": "u", "training_run": 1}
        with _model_of(row | {"adapter_path": str(adapter)}) as model:
            assert model is loaded and weights_digest(model.model) != before
        assert weights_digest(loaded.model) == before
