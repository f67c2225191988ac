"""A language model as a `Recommender`: constrained beam search over rows of similar length."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from agents.language_model import LanguageModel
from agents.search import beam_search
from agents.torch_trie import TorchTrie
from agents.types import Candidates, Support
from rere_env.task import Task
from rere_env.types import NO_TITLE, Batch

__all__ = ["LMRecommender"]


class LMRecommender:
    """Ranks titles by the beams of a policy."""

    def __init__(
        self,
        task: Task,
        lm: LanguageModel,
        *,
        beam: int = 50,
        support: Support = "catalogue",
        batch_size: int = 64,
    ) -> None:
        """Keep the policy.

        Args:
            task: Catalogue and prompts.
            lm: The policy, on its device.
            beam: Width of the search; the best k of the beams are returned.
            support: What probabilities are normalised over.
            batch_size: Prompts searched together.
        """
        self.task = task
        self.lm = lm
        self.beam = beam
        self.support = support
        self.batch_size = batch_size
        self._trie = TorchTrie.build(task.trie, task.title_tokens, lm.device)

    def recommend(self, examples: Batch, k: int) -> NDArray[np.int64]:
        """Return title ids [B, k], best first."""
        return self.search(examples, k).titles

    def search(self, examples: Batch, k: int) -> Candidates:
        """Return titles with their log-probabilities, [B, k].

        Raises:
            ValueError: k is larger than the beam.
        """
        if k > self.beam:
            raise ValueError(f"`k` (={k}) must not exceed `beam` (={self.beam}); use a wider beam.")
        titles = np.full((len(examples), k), NO_TITLE, np.int64)
        logprobs = np.full((len(examples), k), -np.inf, np.float32)
        training = self.lm.training
        self.lm.eval()
        for rows, found in self._batches(examples):
            titles[rows] = found.titles[:, :k]
            logprobs[rows] = found.logprobs[:, :k]
        self.lm.train(training)
        return Candidates(titles=titles, logprobs=logprobs)

    def _batches(self, examples: Batch) -> Iterator[tuple[NDArray[np.int64], Candidates]]:
        prompts = [self.task.prompt(example.history) for example in examples]
        order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield (
                rows,
                beam_search(
                    self.lm,
                    self._trie,
                    [prompts[row] for row in rows],
                    self.beam,
                    support=self.support,
                ),
            )
