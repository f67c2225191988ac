"""The trained policy through the environment: a token loop against tree search.

The token loop asks the environment's dynamics for the legal tokens of every row, lets the policy
choose the best one and steps: one token of each unfinished row a model call, with the prompts read
once and a key-value cache. The tree search writes the same titles as a beam search.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.bench.timing import interleave, machine, ratio
from agents.language_model import LanguageModel, TreeCache
from agents.policy import Policy
from agents.search import beam_search
from agents.trees import Edges
from rere_env.dynamics import Dynamics
from rere_env.dynamics.rows import Allowed, Rules
from rere_env.ragged import owners
from rere_env.task import Task

__all__ = ["bench_rollout", "markdown", "token_loop", "write_rollout_report"]


def bench_rollout(
    task: Task, lm: LanguageModel, *, num_users: int, slate_size: int, repeats: int
) -> dict[str, Any]:
    """Measure titles per second for N users, one title each and K titles each.

    First asserts that the greedy token loop and a beam of width 1 write the same title for every
    user, and that every slate holds K distinct titles.
    """
    policy = Policy.of(lm, task)
    num_users = min(num_users, len(task.split("test")))
    slate_size = min(slate_size, task.trie.num_titles)
    prompts = task.prompts(task.split("test").take(slice(num_users)))

    greedy = token_loop(task, lm, num_users, slate_size=1)
    searched = beam_search(policy, prompts, 1).titles
    slates = token_loop(task, lm, num_users, slate_size=slate_size)
    same = int((greedy[:, 0] == searched[:, 0]).sum())
    if same != num_users:
        raise AssertionError(f"token loop and tree search agree for {same} of {num_users} users")
    if any(len(set(slate.tolist())) != slate_size for slate in slates):
        raise AssertionError("a slate of the token loop repeats a title")

    seconds = interleave(
        {
            "token_loop_1": lambda: token_loop(task, lm, num_users, slate_size=1),
            "tree_search_1": lambda: beam_search(policy, prompts, 1),
            "token_loop_slate": lambda: token_loop(task, lm, num_users, slate_size=slate_size),
            "tree_search_slate": lambda: beam_search(policy, prompts, slate_size),
        },
        repeats,
    )
    num_titles = {name: num_users * (1 if name[-1] == "1" else slate_size) for name in seconds}
    return {
        "num_users": num_users,
        "slate_size": slate_size,
        "repeats": repeats,
        "equal_titles": same,
        "titles_per_second": {
            name: num_titles[name] / float(np.median(times)) for name, times in seconds.items()
        },
        "ratios": {
            "one_title": ratio(seconds["tree_search_1"], seconds["token_loop_1"]),
            "slate": ratio(seconds["tree_search_slate"], seconds["token_loop_slate"]),
        },
        "seconds": seconds,
        "machine": machine(),
    }


def markdown(result: dict[str, Any]) -> str:
    """Return the result as Markdown tables."""
    lines = ["| side | titles per second |", "|---|---:|"]
    lines += [f"| {name} | {rate:,.0f} |" for name, rate in result["titles_per_second"].items()]
    lines += ["", "| tree search / token loop | median | low | high |", "|---|---:|---:|---:|"]
    lines += [
        f"| {name} | {ratio['median']:.1f} | {ratio['low']:.1f} | {ratio['high']:.1f} |"
        for name, ratio in result["ratios"].items()
    ]
    return "\n".join(lines) + "\n"


def write_rollout_report(result: dict[str, Any], folder: Path) -> None:
    """Write rollout.json and rollout.md."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    (folder / "rollout.json").write_text(text, encoding="utf-8")
    (folder / "rollout.md").write_text(markdown(result), encoding="utf-8")


@torch.no_grad()
def token_loop(
    task: Task, lm: LanguageModel, num_users: int, *, slate_size: int
) -> NDArray[np.int64]:
    """Write slates [N, K] for the first N test users, greedily, through the environment."""
    dynamics = Dynamics(task, "test", Rules(slate_size=slate_size))
    state = dynamics.new_rows(num_users)
    dynamics.start(state, np.arange(num_users))
    slates = np.full((num_users, slate_size), -1, np.int64)
    policy = _Policy.read_prompts(task, lm, num_users)
    while not state.finished.all():
        rows = np.flatnonzero(~state.finished)
        allowed = dynamics.allowed(state, rows)
        tokens = policy.choose(rows, state.depth[rows] == 0, allowed)
        slot = state.slot[rows]
        step = dynamics.step(state, tokens, rows)
        policy.read(rows, tokens, closed=state.slot[rows] > slot)
        if step.outcome is not None:
            slates[rows[step.outcome.rows]] = step.outcome.slate
    return slates


@dataclass(slots=True, eq=False)
class _Policy:
    """A greedy policy with a key-value cache that grows by one slot a step."""

    task: Task
    lm: LanguageModel
    cache: TreeCache
    root: Tensor  # [N, D] after the prompt
    states: Tensor  # [N, D] after the current prefix
    prompt: Tensor  # [N, P] bool, slots of the prompt
    visible: Tensor  # [N, slots] bool, slots of prompt and prefix
    lengths: Tensor  # [N] prompt tokens
    depth: Tensor  # [N] prefix tokens

    @classmethod
    def read_prompts(cls, task: Task, lm: LanguageModel, num_users: int) -> "_Policy":
        examples = task.split("test")
        prompts = [torch.tensor(task.prompt(examples[i].history)) for i in range(num_users)]
        lengths = torch.tensor([len(prompt) for prompt in prompts]).to(lm.device)
        padded = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True).to(lm.device)
        states, cache = lm.prefill(padded, lengths)
        prompt = torch.arange(padded.shape[1], device=lm.device) < lengths[:, None]
        return cls(
            task, lm, cache, states, states, prompt, prompt, lengths, torch.zeros_like(lengths)
        )

    def choose(
        self, rows: NDArray[np.int64], fresh: NDArray[np.bool_], allowed: Allowed
    ) -> NDArray[np.int64]:
        """Return the best legal local token of each row."""
        where = torch.from_numpy(rows).to(self.states.device)
        begins = torch.from_numpy(fresh).to(self.states.device)[:, None]
        states = torch.where(begins, self.root[where], self.states[where])
        row = owners(allowed.indptr)
        owner = torch.from_numpy(row).to(states.device)
        token = torch.from_numpy(self.task.title_tokens.to_model_ids(allowed.tokens))
        first = torch.from_numpy(allowed.indptr[:-1]).to(states.device)
        edges = Edges(owner=owner, token=token.to(states.device), child=owner, first=first)
        logprobs = self.lm.edge_logprobs(states, edges, "catalogue").cpu().numpy()
        order = np.lexsort((-logprobs, row))
        return allowed.tokens[order[allowed.indptr[:-1]]].astype(np.int64)

    def read(
        self, rows: NDArray[np.int64], tokens: NDArray[np.int64], closed: NDArray[np.bool_]
    ) -> None:
        """Let the model read the tokens just written; a closed title leaves the prompt alone."""
        device = self.states.device
        going = torch.from_numpy(rows[~closed]).to(device)
        done = torch.from_numpy(rows[closed]).to(device)
        self.visible[done, self.prompt.shape[1] :] = False
        self.depth[done] = 0
        if len(going) == 0:
            return
        num_rows = len(self.visible)
        query = torch.zeros(num_rows, 1, dtype=torch.int64, device=device)
        ids = self.task.title_tokens.to_model_ids(tokens[~closed])
        query[going, 0] = torch.from_numpy(ids).to(device)
        writes = torch.zeros(num_rows, 1, dtype=torch.bool, device=device)
        writes[going] = True
        position = (self.lengths + self.depth)[:, None]
        sees = torch.cat([self.visible, torch.ones_like(writes)], dim=1)
        states = self.lm.extend(query, position, sees[:, None], self.cache)[:, 0]
        self.states = torch.where(writes, states, self.states)
        self.visible = torch.cat([self.visible, writes], dim=1)
        self.depth[going] += 1
