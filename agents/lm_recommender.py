"""Language models as `Recommender`s: by a search for the best titles, or by all their scores."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from agents.language_model import LanguageModel
from agents.scoring import score_catalogue
from agents.search import Search, find_search
from agents.trees import TorchTrie
from agents.types import Candidates, Support
from rere_env.task import Task
from rere_env.types import NO_TITLE, Batch, FloatArray, IntArray

__all__ = ["ExactRecommender", "LMRecommender", "final_search"]


def final_search(support: Support) -> Search:
    """Return the search that counts at the end: the best titles themselves where that is cheap."""
    return "exact" if support == "catalogue" else "parity"


class LMRecommender:
    """Ranks titles by what a search finds."""

    def __init__(
        self,
        task: Task,
        lm: LanguageModel,
        *,
        beam: int = 50,
        support: Support = "catalogue",
        search: Search = "parity",
        batch_size: int = 64,
    ) -> None:
        """Keep the policy.

        Args:
            task: Catalogue, prompts and filter.
            lm: The policy, on its device.
            beam: Width of the search; the best k of the beams are returned.
            support: What probabilities are normalised over.
            search: Which search; "exact" returns the most probable titles themselves;
                "unconstrained" also writes what is no title (`NO_TITLE`, at its rank) and needs
                support="vocabulary".
            batch_size: Prompts searched together.
        """
        self.task = task
        self.lm = lm
        self.beam = beam
        self.support = support
        self.batch_size = batch_size
        self.search_name: Search = search
        self._search = find_search(search)
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
        certified = np.zeros(len(examples), np.bool_)
        training = self.lm.training
        self.lm.eval()
        for rows, found in self._batches(examples, k):
            titles[rows] = found.titles[:, :k]
            logprobs[rows] = found.logprobs[:, :k]
            certified[rows] = False if found.certified is None else found.certified
        self.lm.train(training)
        return Candidates(titles=titles, logprobs=logprobs, certified=certified)

    def exact(self) -> "ExactRecommender":
        """Return the recommender that scores every title under the same policy.

        Raises:
            ValueError: The probabilities of the titles do not sum to one.
        """
        if self.support != "catalogue":
            raise ValueError(
                f"`support` (={self.support!r}) must be 'catalogue' where every title is scored; "
                "use search='exact' for the best ones."
            )
        return ExactRecommender(self.task, self.lm)

    def _batches(self, examples: Batch, k: int) -> Iterator[tuple[NDArray[np.int64], Candidates]]:
        # The best k titles are the same in any width, if the search is exact.
        width = k if self.search_name == "exact" else self.beam
        prompts = [self.task.prompt(example.history) for example in examples]
        hidden = _hidden(self.task, examples)
        order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield (
                rows,
                self._search(
                    self.lm,
                    self._trie,
                    [prompts[row] for row in rows],
                    width,
                    support=self.support,
                    hidden=None if hidden is None else [hidden[row] for row in rows],
                ),
            )


class ExactRecommender:
    """Ranks all titles by their exact probabilities under `support="catalogue"`."""

    def __init__(self, task: Task, lm: LanguageModel) -> None:
        """Keep the policy.

        Args:
            task: Catalogue, prompts and filter.
            lm: The policy, on its device.
        """
        self.task = task
        self.lm = lm

    def recommend(self, examples: Batch, k: int) -> NDArray[np.int64]:
        """Return title ids [B, k], best first; hidden ones are left out."""
        logprobs = self.logprobs(examples)
        num_titles = min(k, logprobs.shape[1])
        best = np.argsort(-logprobs, axis=1, kind="stable")[:, :num_titles]
        titles = np.full((len(examples), k), NO_TITLE, np.int64)
        is_shown = np.take_along_axis(logprobs, best, axis=1) > -np.inf
        titles[:, :num_titles] = np.where(is_shown, best, NO_TITLE)
        return titles

    def logprobs(self, examples: Batch) -> NDArray[np.float32]:
        """Return the log-probability of every title, [B, titles]."""
        training = self.lm.training
        self.lm.eval()
        hidden = _hidden(self.task, examples)
        scores = score_catalogue(self.lm, self.task, examples, hidden=hidden)
        self.lm.train(training)
        return scores

    def probabilities(self, examples: Batch) -> FloatArray:
        """Return the probability of every title, float64 [B, titles]."""
        return np.exp(self.logprobs(examples), dtype=np.float64)


def _hidden(task: Task, examples: Batch) -> list[IntArray] | None:
    hidden = task.hidden(examples)
    return None if hidden is None else hidden.lists()
