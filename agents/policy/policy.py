"""The policy: a language model that writes titles of a catalogue.

Knows how to be evaluated; nothing of searches, rewards or training.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from agents.language_model import LanguageModel
from agents.trees import GroupTrees, TorchTrie, plan_groups
from agents.types import Support
from rere_env.prompts import Prompts
from rere_env.task import Task
from rere_env.types import IntArray

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """What every search and every scorer is given.

    Attributes:
        lm: The language model, without wrappers.
        trie: The catalogue, on the model's device.
        support: What probabilities are normalised over: the legal tokens, or all.
    """

    lm: LanguageModel
    trie: TorchTrie
    support: Support = "catalogue"

    @classmethod
    def of(cls, lm: LanguageModel, task: Task, support: Support = "catalogue") -> "Policy":
        """Return the policy that a model is on a task; moves the trie to the model's device."""
        trie = TorchTrie.build(task.trie, task.title_tokens, lm.device)
        return cls(lm=lm, trie=trie, support=support)

    def under(self, support: Support) -> "Policy":
        """Return the same model with probabilities normalised over something else."""
        return replace(self, support=support)

    def plan(self, prompts: Prompts, titles: IntArray) -> GroupTrees:
        """Lay out the trees of B prompts with G titles each: what one pass must read."""
        trie = self.trie
        return plan_groups(trie.host, trie.title_tokens, prompts, titles, self.support)

    @contextmanager
    def evaluating(self) -> Iterator[LanguageModel]:
        """Put the model in eval mode for a while."""
        training = self.lm.model.training  # a trainer may not know of the wrapper around it
        self.lm.eval()
        try:
            yield self.lm
        finally:
            self.lm.train(training)
