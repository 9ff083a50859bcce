"""Runs that rhodb 0.4.0 and earlier got wrong are flagged by model and version, and no other ones."""

from pathlib import Path

import pytest

from analysis.findings import Finding
from analysis.quality.study import Quality
from analysis.study import StudyOptions
from rhodb.records import ModelRecord, Outcome, Provenance, RunIdentity, ScoreRow, digest
from rhodb.store import insert_outcome, run_uuid
from rhodb.warehouse import Warehouse

FOUR_BIT = '{"bits":4,"group_size":64}'
EMPTY = digest("")
TUNED = "/home/me/tuned"


class Lab:
    """A warehouse of one model's runs."""

    def __init__(self, path: Path, architecture: str = "llama", quantization: str | None = None) -> None:
        self.path = path
        self.model = ModelRecord(
            key="m", source="made for a test", revision=None, fingerprint=digest("m"), architecture=architecture,
            n_layers=2, n_parameters=1000, quantization=quantization,
        )  # fmt: skip
        self.baseline = self.identity("baseline", {"max_length": 256})
        self.versions = "0.4.0"

    def identity(self, kind: str, config: dict[str, object]) -> RunIdentity:
        return RunIdentity(kind=kind, model_key="m", model_fingerprint=digest("m"), seed=0, config=config)

    def add(self, *configs: dict[str, object]) -> list[str]:
        """The baseline, and leaderboard runs of these configurations."""
        runs = [self.baseline, *(self.identity("leaderboard", config) for config in configs)]
        with Warehouse.open(str(self.path)) as wh:
            for run in runs:
                insert_outcome(wh, self.outcome(run), {})
        return [run_uuid(run) for run in runs]

    def outcome(self, run: RunIdentity) -> Outcome:
        score = ScoreRow(behavior="bias", metric="gap", split="eval", value=0.1, se=0.01, n=20)
        here = Provenance(
            host="here", pid=1, device="cpu", platform="Linux", python="3.11.7", git_commit=None, git_dirty=None,
            versions={"rhodb": self.versions}, blas="none",
        )  # fmt: skip
        return Outcome(
            uuid=run_uuid(run), identity=run, model=self.model, attempt=1, started_at="2026-01-01T00:00:00+00:00",
            finished_at="2026-01-01T00:01:00+00:00", seconds=60.0, provenance=here, scores=(score,),
            baseline=None if run == self.baseline else self.baseline,
        )  # fmt: skip

    def flags(self) -> list[Finding]:
        with Warehouse.open(str(self.path), create=False, read_only=True) as wh:
            findings = Quality().run(wh, StudyOptions()).findings
        return [f for f in findings if f.about["detector"] == "old results"]


@pytest.mark.parametrize("architecture", ["gemma2", "cohere", "cohere2", "granite", "helium"])
def test_every_run_on_a_model_of_wrong_logits_is_flagged(architecture, tmp_path):
    lab = Lab(tmp_path / "m.db", architecture=architecture)
    uuids = lab.add({"entry": "m", "weights_fingerprint": EMPTY})
    (found,) = lab.flags()
    assert found.verdict == "artefact" and set(found.evidence.runs) == set(uuids)
    assert f"2 runs made by rhodb 0.4.0 are of the architecture {architecture}" in found.sentence


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "0.5.0", "0.4.1", "1.0"])
def test_only_old_versions_are(version, tmp_path):
    lab = Lab(tmp_path / "m.db", architecture="gemma2")
    lab.versions = version
    lab.add()
    assert len(lab.flags()) == (version in ("0.3.1", "0.4.0"))


def test_merges_and_adapters_on_packed_weights_are_flagged_and_the_base_itself_is_not(tmp_path):
    lab = Lab(tmp_path / "m.db", quantization=FOUR_BIT)
    configs = [{"entry": "m", "weights_fingerprint": EMPTY}, {"entry": TUNED}, {"merge_method": "linear"}]
    uuids = lab.add(*configs)
    packed = next(f for f in lab.flags() if "merges of quantised models" in f.sentence)
    assert packed.verdict == "artefact" and set(packed.evidence.runs) == set(uuids[2:])


@pytest.mark.parametrize("quantization", [None, "GGUF file type 3, expanded"])
def test_plain_merges_are_right(quantization, tmp_path):
    lab = Lab(tmp_path / "m.db", quantization=quantization)
    lab.add({"merge_method": "linear"}, {"entry": "m", "weights_fingerprint": EMPTY})
    assert not lab.flags()


def test_a_base_that_was_not_the_base_proves_that_an_adapter_took_its_place(tmp_path):
    lab = Lab(tmp_path / "m.db")
    uuids = lab.add({"entry": "m", "weights_fingerprint": digest("leaked")}, {"entry": TUNED})
    (found,) = lab.flags()
    assert found.verdict == "artefact" and set(found.evidence.runs) == set(uuids)
    assert "base and tuned model are exchanged" in found.sentence


def test_what_the_rows_cannot_tell_is_said_to_be_so(tmp_path):
    lab = Lab(tmp_path / "m.db")
    uuids = lab.add({"entry": "m", "weights_fingerprint": EMPTY}, {"entry": TUNED})
    (found,) = lab.flags()
    assert found.verdict == "not enough data" and found.evidence.runs == (uuids[2],)
    assert "adapter_config.json" in found.sentence


def test_adapters_of_own_runs_are_all_of_lora(tmp_path):
    lab = Lab(tmp_path / "m.db")
    lab.add({"entry": f"results/adapters/{run_uuid(lab.baseline)}"})
    assert not lab.flags()
