"""Language models as `Recommender`s: by a search for the best titles, or by all their scores."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from agents.language_model import LanguageModel
from agents.policy import Policy
from agents.processes import everyone
from agents.scoring import score_catalogue
from agents.scoring.catalogue import check_support
from agents.search import find_search
from agents.types import Candidates, Support
from rere_env.task import Task
from rere_env.types import NO_TITLE, Batch, FloatArray

__all__ = ["ExactRecommender", "LMRecommender", "final_search"]


def final_search(support: Support) -> str:
    """Return the search that counts at the end: the best titles themselves where that is cheap."""
    return "exact" if support == "catalogue" else "beam"


class LMRecommender:
    """Ranks titles by what a search finds."""

    def __init__(
        self,
        task: Task,
        lm: LanguageModel,
        *,
        beam: int = 50,
        support: Support = "catalogue",
        search: str = "beam",
        batch_size: int = 64,
        accelerator: Accelerator | None = None,
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
            accelerator: Its processes share the batches, and all get all titles; each must ask
                the same. What is found does not depend on their number. None: no sharing.
        """
        self.task = task
        self.policy = Policy.of(lm, task, support)
        self.beam = beam
        self.batch_size = batch_size
        self.search_name = search
        self._search = find_search(search)
        self._accelerator = accelerator

    @property
    def lm(self) -> LanguageModel:
        """The policy's language model."""
        return self.policy.lm

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
        with self.policy.evaluating():
            own = list(self._batches(examples, k))
        found = list(chain.from_iterable(everyone(own, self._accelerator)))
        if not found:
            return Candidates(
                titles=np.zeros((0, k), np.int64), logprobs=np.zeros((0, k), np.float32)
            )
        rows = np.concatenate([rows for rows, _ in found])
        beams = Candidates.joined([part for _, part in found]).take(np.argsort(rows))
        titles = beams.titles[:, :k]
        return Candidates(
            titles=titles,
            logprobs=beams.logprobs[:, :k],
            certified=beams.certified,
            # What is illegal keeps its rank among the beams: of the first k some are counted.
            num_illegal=None if beams.num_illegal is None else (titles == NO_TITLE).sum(axis=1),
        )

    def exact(self) -> "ExactRecommender":
        """Return the recommender that scores every title under the same policy.

        Raises:
            ValueError: The probabilities of the titles do not sum to one.
        """
        check_support(self.policy)
        return ExactRecommender(self.task, self.policy.lm)

    def _batches(self, examples: Batch, k: int) -> Iterator[tuple[NDArray[np.int64], Candidates]]:
        # The best k titles are the same in any width, if the search is exact.
        width = k if self.search_name == "exact" else self.beam
        prompts = self.task.prompts(examples)
        order = np.argsort(prompts.lengths, kind="stable")
        starts = range(0, len(order), self.batch_size)
        if (processes := self._accelerator) is not None:
            starts = starts[processes.process_index :: processes.num_processes]
        for start in starts:
            rows = order[start : start + self.batch_size]
            yield rows, self._search(self.policy, prompts.take(rows), width)


class ExactRecommender:
    """Ranks all titles by their exact probabilities under `support="catalogue"`."""

    def __init__(self, task: Task, lm: LanguageModel) -> None:
        """Keep the policy.

        Args:
            task: Catalogue, prompts and filter.
            lm: The policy, on its device.
        """
        self.task = task
        self.policy = Policy.of(lm, task)

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
        with self.policy.evaluating():
            return score_catalogue(self.policy, self.task.prompts(examples))

    def probabilities(self, examples: Batch) -> FloatArray:
        """Return the probability of every title, float64 [B, titles]."""
        return np.exp(self.logprobs(examples), dtype=np.float64)
