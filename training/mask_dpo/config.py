"""What a training run can be told: fields of YAML files and command lines, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import DPOConfig

from factuality_harness.harness.errors import HarnessError
from factuality_harness.training.arguments import TrainerDefaults, fill_defaults
from factuality_harness.training.mask_dpo.losses import LOSS_TYPES
from factuality_harness.training.mask_dpo.masks import MASKINGS

# Fields of DPOConfig that our loss does not read.
UNREAD = ("loss_type", "loss_weights", "ld_alpha", "f_divergence_type", "use_weighting", "sync_ref_model")


@dataclass
class MaskDPOConfig(TrainerDefaults, DPOConfig):  # type: ignore[misc]  # another default of one field
    """TRL's DPOConfig with the mask, the losses and the savings. Defaults that differ from TRL's are set here.

    The loss is `preference_loss`, not TRL's `loss_type`: that is a list of losses to add up, does not know `kto_pair`,
    `dpop`, `tdpo` and `sepo`, and means another formula by `ipo` (divided by the length). Reference log-probabilities
    are always computed once and cached, except for `tdpo`, which needs whole distributions, and `sepo`, which needs no
    reference.
    """

    masking: str = field(
        default="sentences",
        metadata={
            "help": "sentences: Mask-DPO, correct sentences of the chosen and wrong ones of the rejected response "
            "count. facts: the same, sentences without a fact never. none: every response token counts, as in DPO.",
            "choices": [*MASKINGS],
        },
    )
    preference_loss: str = field(default="sigmoid", metadata={"help": "The loss.", "choices": [*LOSS_TYPES, "sepo"]})
    dpop_lambda: float = field(default=50.0, metadata={"help": "dpop: weight of its penalty."})
    tdpo_alpha: float = field(default=0.5, metadata={"help": "tdpo: weight of the divergence term."})
    sepo_oracle: str | None = field(
        default=None, metadata={"help": "sepo: checkpoint of a model trained by DPO, which scores the tokens."}
    )
    sepo_scores: str | None = field(
        default=None,
        metadata={
            "help": "sepo: file of token scores, written by `factuality train token_scores` (for ZeRO-3 before it) or "
            "on the way (default: in the cache)."
        },
    )
    sepo_chosen_share: float = field(default=0.3, metadata={"help": "sepo: share of chosen tokens, best first."})
    sepo_rejected_share: float = field(default=0.3, metadata={"help": "sepo: share of rejected tokens, worst first."})
    sepo_gamma: float = field(default=2.0, metadata={"help": "sepo: scale of the mean log-probabilities."})
    forward_groups: int = field(
        default=4,
        metadata={
            "help": "Run the sequences of a step in at most so many passes of like length where that saves padding. "
            "Always 1 under FSDP and DeepSpeed."
        },
    )
    group_by_length: bool = field(default=True, metadata={"help": "Whether to put pairs of like length in a batch."})
    reference_cache: str | None = field(
        default=None, metadata={"help": "Folder of cached reference values (default: $HARNESS_CACHE)."}
    )
    merge_adapter: bool = field(
        default=False,
        metadata={"help": "LoRA: save the merged model in output_dir, the adapter in output_dir/adapter."},
    )

    def __post_init__(self) -> None:
        fill_defaults(self)
        if self.ddp_broadcast_buffers is None:
            # Processes may differ in their number of forward passes, and a broadcast in each would wait for ever.
            self.ddp_broadcast_buffers = False
        self.precompute_ref_log_probs = self.preference_loss != "tdpo"
        super().__post_init__()
        self._check()

    def _check(self) -> None:
        if self.preference_loss not in (*LOSS_TYPES, "sepo"):
            raise HarnessError(
                f"preference_loss {self.preference_loss!r}: choose one of {', '.join((*LOSS_TYPES, 'sepo'))}"
            )
        if self.masking not in MASKINGS:
            raise HarnessError(f"masking {self.masking!r}: choose {', '.join(MASKINGS)}")
        if self.preference_loss == "robust" and not 0 <= self.label_smoothing < 0.5:
            raise HarnessError(f"label_smoothing {self.label_smoothing}: robust needs a value from 0 to below 0.5")
        if self.preference_loss == "sepo" and not self.sepo_oracle:
            raise HarnessError("sepo needs sepo_oracle: train one by DPO on a share of the pairs and name its folder")
        for name in ("sepo_chosen_share", "sepo_rejected_share"):
            if not 0 < getattr(self, name) <= 1:
                raise HarnessError(f"{name} {getattr(self, name)}: a share lies above 0 and up to 1")
        if self.beta <= 0:
            raise HarnessError(f"beta {self.beta}: must be above 0")
        defaults = {f.name: f for f in DPOConfig.__dataclass_fields__.values()}
        for name in UNREAD:
            plain = ["sigmoid"] if name == "loss_type" else defaults[name].default
            if getattr(self, name) != plain:
                raise HarnessError(f"{name} has no effect here; remove it (the loss is set by preference_loss)")
