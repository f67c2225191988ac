"""Sequence models of titles: one trainer for SASRec, GRU4Rec and Caser. Knows no tokens, no text.

A model reads the titles of a history and scores every title as the next one. It is trained with
the cross-entropy over the whole catalogue; the one sampled negative of the released baselines makes
a much weaker model. Examples whose histories grow into one another are read once, as one sequence
with several targets.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from agents.baselines.popularity import interaction_counts
from agents.baselines.ranking import best_item_scores, hide, top_titles
from agents.budget import Budget, Meter
from agents.files import replace_folder
from rere_env.metrics import discounted_gains, target_ranks
from rere_env.task import Task
from rere_env.types import NO_ITEM, Batch

__all__ = ["FitSettings", "SequenceRecommender", "Sequences", "sequences"]

NOTHING = 0  # the input where a history has ended; title t is input t + 1
ROWS_PER_BLOCK = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How a sequence model is trained.

    Attributes:
        epochs: At most so many passes.
        batch_size: Sequences a step.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        patience: Epochs without a better validation NDCG@10 before it stops.
    """

    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 5e-3
    weight_decay: float = 0.01
    patience: int = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sequences:
    """Examples as sequences with several targets.

    Attributes:
        titles: [S, H] title ids + 1, oldest first, 0 where a sequence has ended.
        targets: [S, H] the title id that follows each place; 0 where the weight is.
        weights: [S, H] how many examples ask for that target.
    """

    titles: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]


def sequences(task: Task, examples: Batch) -> Sequences:
    """Merge each example into one that goes on where it ends; nothing is left out or added."""
    history = task.catalogue.history_titles(examples.history)
    length = examples.history_length.astype(np.int64)
    rows = np.arange(len(examples))
    whole = np.concatenate([history, np.zeros_like(history[:, :1])], axis=1).astype(np.int64)
    whole[rows, length] = examples.target_title + 1
    # In lexicographic order, 0 first, a sequence stands just before those that go on from it.
    order = np.lexsort((*whole.T[::-1], examples.user))
    whole, length, user = whole[order], length[order], examples.user[order]
    place = np.arange(whole.shape[1])
    same = (whole[:-1] == whole[1:]) | (place > length[:-1, None])
    grows = same.all(axis=1) & (user[:-1] == user[1:])
    ends = np.append(~grows, True)
    sequence = np.cumsum(ends) - ends  # of each row
    weights = np.zeros((int(ends.sum()), history.shape[1] + 1), np.float32)
    np.add.at(weights, (sequence, length), 1.0)  # by where the target stands
    targets = np.where(weights[:, 1:] > 0, whole[ends][:, 1:] - 1, 0)
    titles = np.where(place[:-1] < length[ends][:, None], whole[ends][:, :-1], NOTHING)
    return Sequences(titles=titles, targets=targets, weights=weights[:, 1:])


class SequenceRecommender(nn.Module):
    """Ranks titles by the scores of a sequence model.

    The score of a title is the product of its output embedding with the state after the history,
    plus a bias that starts as the logarithm of how often the title was bought. The papers' models
    read and score with one table, so a title looks most like itself, which is seldom bought again;
    with two tables the built-in world is learnt better and in fewer epochs.
    """

    def __init__(
        self, task: Task, encoder: nn.Module, hidden_size: int, options: dict[str, Any], seed: int
    ) -> None:
        """Draw the embeddings.

        Args:
            task: Whose catalogue is ranked, and whose filter is kept.
            encoder: Embedded histories [B, H, D] to the states [B, H, D] after each place.
            hidden_size: D.
            options: What the model is made of, as its class takes it.
            seed: Of the weights.
        """
        super().__init__()
        self.task, self.options = task, options
        self.num_steps = 0  # made in training
        num_titles = task.catalogue.num_titles
        self.embedding = nn.Embedding(num_titles + 1, hidden_size, padding_idx=NOTHING)
        self.output = nn.Parameter(torch.empty(num_titles, hidden_size))
        generator = torch.Generator().manual_seed(seed)
        for table in (self.embedding.weight, self.output):
            nn.init.normal_(table, std=0.02, generator=generator)
        with torch.no_grad():
            self.embedding.weight[NOTHING] = 0.0
        self.bias = nn.Parameter(torch.zeros(num_titles))
        self.encoder = encoder
        self.eval()

    def forward(self, titles: Tensor) -> Tensor:
        """Return the states [B, H, D] after each place of histories [B, H] of title ids + 1."""
        embedded = self.embedding(titles) * self.embedding.embedding_dim**0.5
        states: Tensor = self.encoder(embedded)
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Return the scores [..., titles] of states [..., D]."""
        return functional.linear(states, self.output, self.bias)

    def fit(
        self,
        examples: Batch,
        valid: Batch,
        *,
        seed: int = 0,
        settings: FitSettings | None = None,
        budget: Budget | None = None,
        progress: bool = True,
    ) -> Self:
        """Train, and keep the weights of the best epoch by NDCG@10 on `valid`; return itself.

        Args:
            examples: What is learnt.
            valid: Chooses the epoch.
            seed: Of the order of the examples and of dropout.
            settings: How long and how fast.
            budget: Ends it early; its steps are optimiser steps.
            progress: Show a progress bar.
        """
        if len(examples) == 0 or len(valid) == 0:
            raise ValueError(
                f"a sequence model needs examples to learn from (got {len(examples)}) and others "
                f"to choose the epoch by (got {len(valid)})."
            )
        settings = settings or FitSettings()
        counts = interaction_counts(examples, self.task.catalogue.num_items)
        bought = best_item_scores(counts[None], self.task.catalogue.item_title)[0]
        with torch.no_grad():
            self.bias.copy_(torch.from_numpy(np.log(bought + 1.0)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _Fit(self, sequences(self.task, examples), valid, settings, seed).run(budget, progress)
        return self.eval()

    def scores(self, examples: Batch) -> NDArray[np.float32]:
        """Return the logit of every title as the next one, [B, titles]; no filter is applied."""
        history = self._inputs(examples)
        last = torch.from_numpy(examples.history_length.astype(np.int64) - 1).clamp(min=0)
        parts = []
        training = self.training
        self.eval()
        with torch.no_grad():
            for rows in torch.arange(len(history)).split(ROWS_PER_BLOCK):
                states = self(history[rows])[torch.arange(len(rows)), last[rows]]
                parts.append(self.logits(states).numpy())
        self.train(training)
        return np.concatenate(parts)

    def recommend(self, examples: Batch, k: int) -> NDArray[np.int64]:
        """Return title ids [B, k], best first, equals by lower id; hidden ones are left out."""
        titles = np.empty((len(examples), k), np.int64)
        for start in range(0, len(examples), ROWS_PER_BLOCK):
            batch = examples.take(slice(start, start + ROWS_PER_BLOCK))
            scores = self.scores(batch).astype(np.float64)
            hide(scores, self.task, batch)
            titles[start : start + len(batch)] = top_titles(scores, k)
        return titles

    def save(self, folder: Path) -> None:
        """Write weights and options, in one step."""
        form = {
            "model": type(self).__name__,
            "options": self.options,
            "catalogue": self.task.catalogue.content_hash(),
        }
        with replace_folder(folder) as new:
            save_model(self, str(new / "model.safetensors"))
            (new / "model.json").write_text(json.dumps(form, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, task: Task) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: There is no model in the folder.
            ValueError: It is another kind of model, or of another catalogue.
        """
        file = folder / "model.json"
        if not file.is_file():
            raise FileNotFoundError(f"{folder} holds no sequence model: {file.name} is missing.")
        form = json.loads(file.read_text(encoding="utf-8"))
        if form["model"] != cls.__name__:
            raise ValueError(f"{folder} holds a {form['model']}; load it with {form['model']}.load")
        if form["catalogue"] != task.catalogue.content_hash():
            raise ValueError(f"the model in {folder} ranks another catalogue; train a new one.")
        model = cls(task, **form["options"])
        load_model(model, str(folder / "model.safetensors"))
        return model.eval()

    def _inputs(self, examples: Batch) -> Tensor:
        history, length = examples.history, self.task.history_length
        if history.shape[1] > length and (history[:, length:] != NO_ITEM).any():
            raise ValueError(f"a history is longer than `history_length` (={length}) of the task.")
        titles = self.task.catalogue.history_titles(history[:, :length])
        return torch.from_numpy(titles.astype(np.int64))


class _Fit:
    def __init__(
        self,
        model: SequenceRecommender,
        data: Sequences,
        valid: Batch,
        settings: FitSettings,
        seed: int,
    ) -> None:
        self.model, self.valid, self.settings = model, valid, settings
        self.titles, self.targets, self.weights = (
            torch.from_numpy(array) for array in (data.titles, data.targets, data.weights)
        )
        self.order = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def run(self, budget: Budget | None, progress: bool) -> None:
        meter = None if budget is None else budget.start()
        best, best_epoch = self.validate(), -1
        kept = _copy(self.model)
        bar = tqdm(range(self.settings.epochs), type(self.model).__name__, disable=not progress)
        for epoch in bar:
            for rows in self.batches():
                if _over(meter, self.model.num_steps):
                    break
                self.step(rows)
                self.model.num_steps += 1
            found = self.validate()
            if found > best:
                best, best_epoch, kept = found, epoch, _copy(self.model)
            bar.set_postfix(ndcg=f"{found:.4f}", best=f"{best:.4f}")
            if epoch - best_epoch > self.settings.patience or _over(meter, self.model.num_steps):
                break
        bar.close()
        self.model.load_state_dict(kept)

    def batches(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self.titles), generator=self.order)
        yield from order.split(self.settings.batch_size)

    def step(self, rows: Tensor) -> None:
        self.model.train()
        weights = self.weights[rows].flatten()
        asked = weights.nonzero()[:, 0]
        # `index_select`, not `[]`: its CPU gradient is deterministic.
        states = self.model(self.titles[rows]).flatten(0, 1).index_select(0, asked)
        losses = functional.cross_entropy(
            self.model.logits(states), self.targets[rows].flatten()[asked], reduction="none"
        )
        loss = (losses * weights[asked]).sum() / weights.sum()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()

    def validate(self) -> float:
        titles = self.model.recommend(self.valid, 10)
        ranks = target_ranks(titles, self.valid.target_title)
        return float(discounted_gains(ranks, 10).mean())


def _over(meter: Meter | None, step: int) -> bool:
    return meter is not None and meter.over(step)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
