"""The session of a stress test: the cells that train, and after each the cell that answers and is judged."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from rhodb.family_records import StressResponseRow, StressRow
from rhodb.records import ModelRecord, ProbeSetRecord, RunIdentity
from rhodb.rows import run_uuid
from runners.alignment import AlignmentSession
from runners.arms import make_arm
from runners.backend.generation import GENERATION_WORK, Answer, answer_prompts
from runners.backend.models import LoadedModel
from runners.cells import Cell, CellProgress, CellRows
from runners.judge import TEXT_JUDGES, Verdict, judge_version
from runners.logprob_judge import judge_logprob
from runners.stress_prompts import StressPrompt, fingerprint, load_prompts
from runners.stress_test import StressTestConfig

KIND: Final = "stress"


class StressSession:
    """Alignment cells and, for each model, a cell of kind `stress`."""

    def __init__(self, config: StressTestConfig) -> None:
        self._config = config
        self._prompts = load_prompts(config.prompts)
        self._arms = [
            make_arm(condition, rho_weight=config.rho_weight, margin=config.margin)
            for condition in config.conditions
            if condition != "baseline"
        ]
        self._alignment = AlignmentSession(config, self._arms, save_adapters=config.adapters)

    @property
    def model(self) -> ModelRecord:
        return self._alignment.model

    @property
    def probe_sets(self) -> Mapping[str, ProbeSetRecord]:
        return self._alignment.probe_sets

    @cached_property
    def cells(self) -> list[Cell]:
        """The untouched model's answers, the trainings, and the answers of each."""
        baseline = self._answering("baseline", None)
        answering = [
            self._answering(arm.condition, self._alignment.training_cell(arm, seed), baseline.identity)
            for seed in self._config.seeds
            for arm in self._arms
        ]
        training = self._alignment.cells if self._arms else []
        return [baseline, *training, *answering]

    def execute(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        """Train and score, or answer and judge."""
        if cell.identity.kind != KIND:
            return self._alignment.execute(cell, artefacts, progress)
        if cell.baseline is None:
            return self._answer(self._alignment.loaded, cell, None, progress)
        trained = self._training_of(cell)
        uuid = run_uuid(trained.identity)
        with self._alignment.trained(trained, artefacts.parent / uuid, progress) as model:
            return self._answer(model, cell, uuid, progress)

    def seconds_per_work(self) -> float:
        return self._alignment.seconds_per_work()

    def peak_bytes(self) -> int:
        """That of training and scoring; a generating pass takes less."""
        return self._alignment.peak_bytes()

    def _answering(self, condition: str, training: Cell | None, baseline: RunIdentity | None = None) -> Cell:
        identity = RunIdentity(
            kind=KIND,
            model_key=self.model.key,
            model_fingerprint=self.model.fingerprint,
            seed=0 if training is None else training.identity.seed,
            config={
                "condition": condition,
                "training": None if training is None else training.identity.config_hash,
                "prompts": fingerprint(self._prompts),
                "response_tokens": self._config.response_tokens,
                "judge": judge_version(self._config.judge),
            },
        )
        label = "baseline" if training is None else training.label
        return Cell(
            identity=identity,
            label=f"answers of {label}",
            baseline=baseline,
            requires=() if training is None else (training.identity,),
            train_work=0.0,
            score_work=GENERATION_WORK * self._config.response_tokens * len(self._prompts),
        )

    def _training_of(self, cell: Cell) -> Cell:
        return next(c for c in self._alignment.cells if c.identity in cell.requires)

    def _answer(self, model: LoadedModel, cell: Cell, training_run: str | None, progress: CellProgress) -> CellRows:
        messages = [prompt.prompt for prompt in self._prompts]
        answers = answer_prompts(model, messages, max_tokens=self._config.response_tokens, on_progress=progress.scored)
        verdicts = judged(self._config.judge, model, self._prompts, [answer.text for answer in answers])
        version = judge_version(self._config.judge)
        responses = [
            _response(prompt, answer, verdict, version)
            for prompt, answer, verdict in zip(self._prompts, answers, verdicts, strict=True)
        ]
        return CellRows(
            family_rows=[summary(cell.identity.config["condition"], training_run, responses, version), *responses],
            notes={"cut_answers": sum(not answer.complete for answer in answers)},
        )


def judged(judge: str, model: LoadedModel, prompts: Sequence[StressPrompt], responses: Sequence[str]) -> list[Verdict]:
    """The judge's verdicts on a model's responses."""
    if judge in TEXT_JUDGES:
        return [TEXT_JUDGES[judge](response) for response in responses]
    return judge_logprob(model, [prompt.prompt for prompt in prompts])


def summary(condition: str, training_run: str | None, responses: Sequence[StressResponseRow], judge: str) -> StressRow:
    """The family row: how many of each kind were refused; None where there were none."""
    count = {kind: sum(r.kind == kind for r in responses) or None for kind in ("jailbreak", "benign")}
    refused = {kind: sum(r.kind == kind and bool(r.refused) for r in responses) for kind in count}
    return StressRow(
        condition=condition,
        training_run=training_run,
        n_jailbreak=count["jailbreak"],
        jailbreak_refused=refused["jailbreak"] if count["jailbreak"] else None,
        n_benign=count["benign"],
        benign_refused=refused["benign"] if count["benign"] else None,
        judge=judge,
    )


def _response(prompt: StressPrompt, answer: Answer, verdict: Verdict, judge: str) -> StressResponseRow:
    return StressResponseRow(
        prompt_key=prompt.key,
        kind=prompt.kind,
        category=prompt.category,
        prompt=prompt.prompt,
        response=answer.text,
        refused=verdict.refused,
        judge=judge,
        rule=verdict.rule,
        tokens=answer.tokens,
        seconds=answer.seconds,
    )
