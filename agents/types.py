"""The values that travel inside an agent. Shapes: see the legend of `rere_env.types`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

from rere_env.prompts import Prompts
from rere_env.types import IntArray

__all__ = [
    "Advantage",
    "AdvantageName",
    "Candidates",
    "Loss",
    "LossInputs",
    "OnLongPrompt",
    "Sampler",
    "StepTotals",
    "Support",
]

AdvantageName = Literal[
    "group_normalized", "group_centered", "leave_one_out", "batch_centered", "raw", "windowed"
]
"""The name of an advantage, as `rere train --advantage` takes it."""

OnLongPrompt = Literal["error", "truncate"]
"""What happens to a prompt that does not fit: it is refused, or loses its oldest items."""

Support = Literal["catalogue", "vocabulary"]
"""Over which tokens a policy's probabilities sum to one: the legal ones, or all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Titles written for B prompts, best first.

    Attributes:
        titles: [B, G] int64 title ids, `NO_TITLE` where fewer than G titles exist.
        logprobs: [B, G] float32 log-probability of each title, -inf in empty slots.
        certified: [B] bool, True where no title outside is more probable than one inside; None
            where the method cannot tell.
        num_illegal: [B] int64, of the B * G that were written those that are no title; None where
            only titles can be written.

    >>> found = Candidates(titles=np.array([[4, 8], [8, -1]]),
    ...                    logprobs=np.array([[-1.0, -2.0], [-0.5, -np.inf]], np.float32))
    >>> found.take(np.array([1])).titles.tolist(), Candidates.joined([found, found]).titles.shape
    ([[8, -1]], (4, 2))
    """

    titles: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    certified: NDArray[np.bool_] | None = None
    num_illegal: NDArray[np.int64] | None = None

    def take(self, rows: IntArray) -> "Candidates":
        """Select prompts."""

        def of(values: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if values is None else values[rows]

        return Candidates(
            titles=self.titles[rows],
            logprobs=self.logprobs[rows],
            certified=of(self.certified),
            num_illegal=of(self.num_illegal),
        )

    @classmethod
    def joined(cls, parts: "Sequence[Candidates]") -> "Candidates":
        """Return the candidates of several batches of prompts, one after the other."""

        def every(name: str) -> Any:  # noqa: ANN401 - an array, or nothing
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else np.concatenate(values)

        return cls(
            titles=every("titles"),
            logprobs=every("logprobs"),
            certified=every("certified"),
            num_illegal=every("num_illegal"),
        )


class Sampler(Protocol):
    """Writes G titles for each of B prompts: the searches and samplers of `agents.search`."""

    def __call__(
        self,
        policy: Any,  # noqa: ANN401 - a `Policy`; its module stands above this one
        prompts: Prompts,
        group_size: int,
        *,
        generator: "torch.Generator | None" = None,
    ) -> Candidates:
        """Return candidates [B, G], best first.

        Args:
            policy: What writes, in eval mode.
            prompts: B prompts; nothing hidden from one is written for it. Samplers that look for
                the answers find them there.
            group_size: G.
            generator: Source of randomness, on the policy's device; None: torch's own.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTotals:
    """What the means of a loss divide by. Groups without signal count.

    Attributes:
        num_groups: Prompts of the optimiser step.
        num_candidates: Titles written for them.
        num_tokens: Kept tokens of those titles.
        longest_title: Kept tokens of the catalogue's longest title.
    """

    num_groups: int
    num_candidates: int
    num_tokens: int
    longest_title: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossInputs:
    """What a loss sees: groups of candidates whose tokens have log-probabilities.

    Attributes:
        logprobs: [B, G, T] under the policy, with gradient.
        old_logprobs: [B, G, T] under the policy that wrote the candidates.
        ref_logprobs: [B, G, T] under the reference policy.
        mask: [B, G, T] bool, True on the tokens the support keeps.
        advantages: [B, G].
        rewards: [B, G].
        is_target: [B, G] bool.
        totals: Of the whole optimiser step, whatever part of it these groups are.
        exact_kl: [B, G, T] KL(policy || reference) over the legal tokens of each decision, with
            gradient; None where it is not known (`support="vocabulary"`).

    One prompt, two titles of one kept token; a loss that is the mean probability of the targets:

    >>> import torch
    >>> lp = torch.tensor([[[0.5], [0.25]]]).log()  # [B=1, G=2, T=1]
    >>> inputs = LossInputs(
    ...     logprobs=lp, old_logprobs=lp, ref_logprobs=lp, mask=lp < 0,
    ...     advantages=torch.tensor([[1.0, -1.0]]), rewards=torch.tensor([[1.0, 0.0]]),
    ...     is_target=torch.tensor([[True, False]]),
    ...     totals=StepTotals(num_groups=1, num_candidates=2, num_tokens=2, longest_title=1))
    >>> float(inputs.logprobs.sum(-1).exp()[inputs.is_target].mean())
    0.5
    """

    logprobs: "Tensor"
    old_logprobs: "Tensor"
    ref_logprobs: "Tensor"
    mask: "Tensor"
    advantages: "Tensor"
    rewards: "Tensor"
    is_target: "Tensor"
    totals: StepTotals
    exact_kl: "Tensor | None" = None


Advantage: TypeAlias = "Callable[[Tensor], Tensor]"
"""`rewards [B, G] -> advantages [B, G]`."""

Loss: TypeAlias = "Callable[[LossInputs], tuple[Tensor, dict[str, Tensor]]]"
"""`LossInputs -> (scalar, metrics)`; scalars of the parts of a step add up to its loss."""
