"""`rere evaluate`: score a run, a model folder or a hub model on a split."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import tyro

from agents.search import SEARCHES

if TYPE_CHECKING:
    SearchName: TypeAlias = str
else:  # tyro lists the choices
    SearchName = Literal[("auto", *SEARCHES)]

__all__ = ["Evaluate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """Rank the whole catalogue for every example of a split and score the lists.

    Examples:
        rere evaluate runs/mine
        rere evaluate runs/mine --split valid --beam 20 --json
        rere evaluate runs/mine --search exact

    Attributes:
        run_or_model: A folder of `rere train`, a folder with a causal LM, or a hub id.
        data: Data folder or `games`; default: what the run was trained on.
        split: Which split.
        beam: Width of the search; metrics go up to this rank.
        search: `beam` is the beam search of Hugging Face, `radix` a faster one, `exact` finds
            the most probable titles themselves; `auto` is `exact`, or `beam` for a run whose
            support is the vocabulary. `unconstrained` does not keep to the catalogue: it shows
            the illegal rate of the policy under the whole vocabulary.
        exact: Score every title of the catalogue instead of searching.
        json: Print JSON instead of a table.
        device: Where to compute.
    """

    run_or_model: Annotated[str, tyro.conf.Positional]
    data: str | None = None
    split: str = "test"
    beam: int = 50
    search: SearchName = "auto"
    exact: bool = False
    json: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def run(self) -> None:
        """Evaluate and print."""
        from agents.commands.common import load_policy, warn_of_truncation
        from agents.evaluation import evaluate
        from agents.lm_recommender import LMRecommender, final_search
        from agents.reporting.tables import evaluation_table

        policy = load_policy(self.run_or_model, self.data, self.device)
        recommender = LMRecommender(
            policy.task,
            policy.lm,
            beam=self.beam,
            support="vocabulary" if self.search == "unconstrained" else policy.config.support,
            search=final_search(policy.config.support) if self.search == "auto" else self.search,
        )
        ks = tuple(k for k in (1, 3, 5, 10, 20, 50) if k <= self.beam)
        examples = policy.task.split(self.split)
        done = evaluate(recommender, policy.task, examples, ks=ks, exact=self.exact)
        warn_of_truncation(policy.task)
        if self.json:
            print(json.dumps(done.as_dict(), indent=2, allow_nan=False))
        else:
            print(evaluation_table({self.run_or_model: done}))
