"""The rewards of a run that need tables or a model: made once, kept in the run's folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from agents.baselines.sasrec import SASRec
from agents.files import DamagedError, verify_folder
from agents.policy import Backbone
from agents.rewards.embeddings import sentence_embeddings, token_embeddings
from agents.rewards.names import Scores, make_reward
from rere_env.task import Task
from rere_env.types import Batch, Reward

__all__ = ["RewardParts"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RewardParts:
    """What rewards are made of.

    Attributes:
        task: Catalogue, filter and validation split.
        backbone: The policy that RL starts from; its token embeddings are the default meaning of
            titles. None where no language model is trained.
        examples: What the sequence model of `collaborative` learns.
        folder: Where that model is kept: what is there is loaded, not trained again.
        sentence_encoder: A model that gives titles their meaning instead of the policy.
        seed: Of the sequence model.
        device: Where the sentence encoder computes.
        progress: Show progress bars.
    """

    task: Task
    backbone: Backbone | None
    examples: Batch
    folder: Path
    sentence_encoder: str | None = None
    seed: int = 0
    device: torch.device | str = "cpu"
    progress: bool = True

    def make(self, text: str) -> Reward:
        """Return the reward that a text such as `rere+0.1*collaborative` describes."""
        return make_reward(text, self.embeddings, self.scores_of)

    def embeddings(self) -> NDArray[np.float32]:
        """Return what titles mean, [titles, D].

        Raises:
            ValueError: There is neither a policy nor an encoder.
        """
        titles = self.task.catalogue.titles
        if self.sentence_encoder is None:
            if self.backbone is None:
                raise ValueError(
                    "`reward` (of which `semantic` is a term) needs `sentence_encoder` (=None) "
                    "where no language model is trained; give --sentence-encoder."
                )
            return token_embeddings(self.backbone.model, self.backbone.tokenizer, titles)
        return sentence_embeddings(
            self.sentence_encoder, titles, device=self.device, progress=self.progress
        )

    def scores_of(self) -> Scores:
        """Return the scores of the sequence model, trained if the folder holds none yet.

        Raises:
            DamagedError: What it holds is not what was written.
        """
        folder = self.folder / "sasrec"
        if not (folder / "model.json").is_file():
            SASRec(self.task, seed=self.seed).fit(
                self.examples, self.task.split("valid"), seed=self.seed, progress=self.progress
            ).save(folder)
        try:
            verify_folder(folder)
        except DamagedError as error:
            raise DamagedError(f"{error}; delete {folder} and it is trained again.") from error
        return SASRec.load(folder, self.task).scores
