"""`rere bench search`: our searches beside `generate`, and beside reading the prompts alone.

| ratio | says |
|---|---|
| beam16_vocabulary | released search / `beam_search` over the vocabulary: the same titles |
| beam16_catalogue | released search / `radix_search` over the legal tokens |
| beam50_exact | released search with 50 beams / `exact_search`: the true 50 best titles |
| prefill_limit | `radix_search` / reading the prompts alone: 1 is the limit |
| catalogue_vs_beam50 | released search with 50 beams / the exact score of every title |
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.bench.clock import Race, Side, race
from agents.bench.engine.plain import assert_same_titles, decision_beams, recall
from agents.bench.engine.released import ReleasedMask, generate_beams, nested_dicts, prefix_table
from agents.bench.engine.scores import ScoresForGenerate
from agents.bench.engine.workload import Measured, Setting, Workload
from agents.language_model import LanguageModel
from agents.policy import Policy
from agents.scoring import score_catalogue
from agents.search import beam_search, exact_search, radix_search
from agents.types import Candidates
from rere_env.prompts import Prompts

__all__ = ["Peers", "measure_search", "our_sides"]

NARROW = {
    "beam16_vocabulary": ("released", "parity_vocabulary"),
    "beam16_catalogue": ("released", "radix"),
    "prefill_limit": ("radix", "prefill"),
}
WIDE = {
    "beam50_exact": ("released_wide", "exact_wide"),
    "catalogue_vs_beam50": ("released_wide", "score_catalogue"),
}
"""Name: the side that takes longer, the side that takes less."""

BESIDE = {
    "constrained_vs_parity_catalogue": ("constrained", "parity_catalogue"),
    "constrained_vs_radix": ("constrained", "radix"),
    "released_vs_parity_catalogue": ("released", "parity_catalogue"),
    "released_vs_exact": ("released", "exact"),
}
"""`constrained`: `generate` with Hugging Face's own PrefixConstrainedLogitsProcessor."""


class Peers:
    """`generate` on a workload: in the released manner, or under Hugging Face's own processor."""

    def __init__(self, workload: Workload) -> None:
        """Build the dictionary of prefixes once."""
        self._world = workload
        self._table = prefix_table(workload.task.title_tokens)
        self._allowed = nested_dicts(workload.task.title_tokens, len(workload.prompts[0]))

    def released(self, num_users: int, num_beams: int, *, scored: bool = True) -> Tensor:
        """Search as published code does; return the tokens [B, G, C]."""
        mask = ReleasedMask(self._table, num_beams)
        return self._generate(num_users, num_beams, mask, scored=scored)

    def constrained(self, num_users: int, num_beams: int) -> Tensor:
        """Search under `prefix_allowed_tokens_fn`, renormalised; return the tokens [B, G, C]."""
        return self._generate(num_users, num_beams, None)

    def _generate(
        self, num_users: int, num_beams: int, mask: ReleasedMask | None, *, scored: bool = True
    ) -> Tensor:
        workload = self._world
        tokens, prompt_length = workload.task.title_tokens, len(workload.prompts[0])
        last = [ScoresForGenerate(workload.scores, tokens, prompt_length)] if scored else []
        return generate_beams(
            workload.model,
            workload.prompts[:num_users],
            num_beams,
            workload.trie.max_length,
            processors=[*([] if mask is None else [mask]), *last],
            allowed=self._allowed if mask is None else None,
        )


def our_sides(workload: Workload, num_users: int, group_size: int, times: int) -> dict[str, Side]:
    """Return what we measure of ourselves, by name."""
    prompts = workload.prompts[:num_users]
    padded, lengths = torch.tensor(prompts), torch.tensor([len(prompt) for prompt in prompts])
    asked, policy, lm = Prompts(prompts), workload.policy(), workload.lm

    @torch.no_grad()
    def prefill() -> None:
        lm.prefill(padded, lengths)

    def side(run: Callable[[], Any]) -> Side:
        return Side(run=run, users=num_users, times=times)

    return {
        "parity_vocabulary": side(
            lambda: beam_search(workload.policy("vocabulary"), asked, group_size)
        ),
        "parity_catalogue": side(lambda: beam_search(policy, asked, group_size)),
        "radix": side(lambda: radix_search(policy, asked, group_size)),
        "exact": side(lambda: exact_search(policy, asked, group_size)),
        "prefill": side(prefill),
        "score_catalogue": replace(
            side(lambda: score_catalogue(policy, asked)), times=1, warm=False
        ),
    }


def measure_search(workload: Workload, setting: Setting) -> Measured:
    """Race the searches; both races assert equal results after their first round."""
    peers = Peers(workload)
    if setting.shape == "small":
        _assert_same_without_scores(workload, peers, setting.group_size)
    narrow, facts = _race_narrow(workload, peers, setting)
    wide, more_facts = _race_wide(workload, peers, setting)
    return Measured(
        ratios=narrow.ratios(NARROW) | wide.ratios(WIDE),
        wall_ratios=narrow.ratios(NARROW, wall=True) | wide.ratios(WIDE, wall=True),
        beside=narrow.ratios(BESIDE),
        facts=facts | more_facts,
        seconds=narrow.as_dict() | wide.as_dict(),
    )


def _race_narrow(workload: Workload, peers: Peers, setting: Setting) -> tuple[Race, dict[str, Any]]:
    users, beams = setting.num_users, setting.group_size
    ours = our_sides(workload, users, beams, setting.times)
    del ours["score_catalogue"]
    logprobs = workload.scores.titles()[:users]
    facts: dict[str, Any] = {}

    def check(results: dict[str, Any]) -> None:
        released = workload.titles_of(results["released"])
        for name, theirs in (
            ("parity_vocabulary", released),
            ("parity_catalogue", workload.titles_of(results["constrained"])),
            ("radix", np.array([decision_beams(workload.scores, u, beams) for u in range(users)])),
        ):
            assert_same_titles(results[name].titles, theirs, logprobs)
        _assert_exact(results["exact"], logprobs)
        facts["users_with_identical_titles"] = users
        facts["recall_released"] = recall(released, logprobs)
        facts["recall_radix"] = recall(results["radix"].titles, logprobs)

    sides = ours | {
        "released": Side(run=lambda: peers.released(users, beams), users=users, warm=False),
        "constrained": Side(
            run=lambda: peers.constrained(users, beams), users=users, warm=False, max_rounds=1
        ),
    }
    done = race(
        sides,
        setting.rounds,
        aside=workload.scores.aside,
        check=check,
        label=f"search G={beams} {setting.shape}",
    )
    return done, facts


def _race_wide(workload: Workload, peers: Peers, setting: Setting) -> tuple[Race, dict[str, Any]]:
    users, beams = setting.num_users_wide, setting.wide
    ours = our_sides(workload, users, beams, setting.times)
    logprobs = workload.scores.titles()[:users]
    facts: dict[str, Any] = {}

    def check(results: dict[str, Any]) -> None:
        scores = results["score_catalogue"]
        np.testing.assert_allclose(scores, logprobs, atol=1e-4)
        np.testing.assert_allclose(np.exp(scores, dtype=np.float64).sum(1), 1.0, atol=1e-5)
        _assert_exact(results["exact_wide"], logprobs)
        facts["recall_exact_wide"] = recall(results["exact_wide"].titles, scores)
        facts["recall_released_wide"] = recall(workload.titles_of(results["released_wide"]), scores)

    sides = {
        "exact_wide": ours["exact"],
        "score_catalogue": ours["score_catalogue"],
        "released_wide": Side(run=lambda: peers.released(users, beams), users=users, warm=False),
    }
    done = race(
        sides,
        setting.rounds,
        aside=workload.scores.aside,
        check=check,
        label=f"search G={beams} {setting.shape}",
    )
    return done, facts


def _assert_exact(found: Candidates, logprobs: NDArray[np.float64]) -> None:
    """Assert that the search has found the best titles of the whole catalogue, and knows it."""
    best = np.argsort(-logprobs, axis=1, kind="stable")[:, : found.titles.shape[1]]
    assert_same_titles(found.titles, best, logprobs)
    if found.certified is None or not found.certified.all():
        raise AssertionError("`exact_search` has not certified its titles; nothing is reported.")


def _assert_same_without_scores(workload: Workload, peers: Peers, num_beams: int) -> None:
    """Assert equal titles on the model's own scores too, for one user."""
    trie = workload.trie
    policy = Policy(lm=LanguageModel(workload.model), trie=trie, support="vocabulary")
    ours = beam_search(policy, Prompts(workload.prompts[:1]), num_beams)
    theirs = workload.titles_of(peers.released(1, num_beams, scored=False))
    scores = np.full((1, trie.num_titles), -np.inf)
    scores[0, ours.titles[0]] = ours.logprobs[0]
    assert_same_titles(ours.titles, theirs, scores)
