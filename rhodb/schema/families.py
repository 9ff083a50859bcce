"""One table an experiment family: one row a run, with the family's axes and own outcomes."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from rhodb.schema.base import STRICT, Base, Real, at_least, one_of
from rhodb.vocabulary import CONDITIONS


class AlignmentRun(Base):
    __tablename__ = "alignment_runs"
    __table_args__ = (
        one_of("condition", CONDITIONS),
        at_least("rho_weight"),
        at_least("margin"),
        at_least("sft_size"),
        at_least("lora_rank", 1),
        at_least("steps"),
        at_least("updates"),
        CheckConstraint("swapped_share BETWEEN 0 AND 1", name="swapped_share"),
        Index(None, "condition", "rho_weight", "margin"),
        {"comment": "Axes and outcomes of rho-guided fine-tuning runs (kind alignment).", **STRICT},
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, comment="Run.", autoincrement=False
    )
    condition: Mapped[str] = mapped_column(Text, comment="sft-only, rho-guided, contrastive-only or shuffled-pairs.")
    rho_weight: Mapped[float] = mapped_column(Real, comment="λ, weight of the contrastive term.")
    margin: Mapped[float | None] = mapped_column(Real, comment="γ, hinge margin, nats/token.")
    sft_size: Mapped[int] = mapped_column(Integer, comment="Training texts of an epoch.")
    lora_rank: Mapped[int] = mapped_column(Integer, comment="Rank of the LoRA adapters.")
    lora_alpha: Mapped[float] = mapped_column(Real, comment="LoRA alpha; the scale is alpha / rank.")
    epochs: Mapped[float] = mapped_column(Real, comment="Passes over the training texts.")
    lr: Mapped[float] = mapped_column(Real, comment="Peak learning rate.")
    train_ce_loss: Mapped[float | None] = mapped_column(
        Real, comment="SFT loss, mean over the last quarter of the steps, nats/token."
    )
    train_rho_loss: Mapped[float | None] = mapped_column(
        Real, comment="Hinge before λ, mean over the last quarter of the steps, nats/token."
    )
    steps: Mapped[int] = mapped_column(Integer, comment="Micro-batches.")
    updates: Mapped[int] = mapped_column(Integer, comment="Optimizer updates.")
    swapped_share: Mapped[float | None] = mapped_column(
        Real, comment="Share of the sampled pairs whose labels were swapped (shuffled-pairs only)."
    )
    adapter_path: Mapped[str | None] = mapped_column(Text, comment="Folder of the saved adapter.")
