"""GRPO written out: groups of titles for each user, ranked, scored together, one update.

`ReReVectorEnv(..., group_size=G)` lets G consecutive rows write one title each for the same user.
A title is as good as its group says: `rere` pays 1 for the target and fines the others, the more
the higher they ranked, so the rows are told what the policy thinks of them (`set_scores`). What a
title was paid more than its group's mean is its advantage (arXiv 2402.03300); there is no critic.

    python examples/grouped_grpo.py --group-size 16

The policy is a small network over ids. A language model is trained the same way by `rere train`,
with far less computing per title: see `agents.rere`.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.advantages import group_normalized
from agents.baselines import Popularity
from agents.budget import Budget
from agents.env_recommender import EnvRecommender
from agents.evaluation import evaluate
from agents.reporting import evaluation_table
from rere_env import ReReVectorEnv, Task
from rere_env.worlds import WORLDS

# B users, G rows a group, N = B x G rows, n actions.

Observation = dict[str, NDArray[np.int64]]


class Policy(nn.Module):
    """Embeddings of the history and of the tokens written so far, then logits."""

    def __init__(self, task: Task, width: int = 64) -> None:
        """Size the layers by the task."""
        super().__init__()
        num_tokens, length = task.title_tokens.num_tokens, task.trie.max_length - 1
        self.title = nn.Embedding(task.catalogue.num_titles + 1, width, padding_idx=0)
        self.token = nn.Embedding(num_tokens, width, padding_idx=0)
        self.body = nn.Sequential(nn.Linear((task.history_length + length) * width, 128), nn.Tanh())
        self.head = nn.Linear(128, num_tokens)
        nn.init.normal_(self.head.weight, std=0.01)  # the first policy is nearly uniform

    def forward(self, observation: Observation) -> Tensor:
        """Return logits [N, n]."""
        history, prefix = (torch.from_numpy(observation[name]) for name in ("history", "prefix"))
        ids = torch.cat([self.title(history), self.token(prefix)], dim=1)
        return self.head(self.body(ids.flatten(1)))

    def scores(self, observation: Observation) -> NDArray[np.float32]:
        """Return the same as an array, as an `EnvRecommender` wants it."""
        with torch.no_grad():
            return self(observation).numpy()


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPO:
    """Group-relative policy optimisation: one update for each batch of groups."""

    num_users: int = 16
    group_size: int = 16
    learning_rate: float = 3e-3
    entropy_weight: float = 0.3
    verbose: bool = False

    def train(self, task: Task, budget: Budget, *, seed: int) -> EnvRecommender:
        """Write, compare and learn until the budget is spent."""
        torch.manual_seed(seed)
        policy = Policy(task)
        optimizer = torch.optim.Adam(policy.parameters(), lr=self.learning_rate)
        # sync="batch": all groups end in the same step, so a rollout is a plain loop.
        env = ReReVectorEnv(
            self.num_users * self.group_size,
            task,
            group_size=self.group_size,
            sync="batch",
            mask="lazy",
            autoreset_mode="Disabled",
        )
        env.reset(seed=seed)
        meter, steps, hits = budget.start(), 0, [0.0]
        while not meter.over(steps):
            rewards, logprobs, num_decisions, entropy, num_steps = self.write(env, policy)
            advantages = group_normalized(rewards)  # [B, G]; equal rewards give 0
            gain = (advantages * logprobs / num_decisions).mean()
            loss = -gain - self.entropy_weight * entropy
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += num_steps * env.num_envs
            hits.append((rewards > 0).any(1).float().mean().item())
            if self.verbose and len(hits) % 20 == 0:
                print(
                    f"step {steps:>7}   {meter.seconds:>5.1f} s   "
                    f"groups with a hit {np.mean(hits[-20:]):.2f}   entropy {entropy.item():.2f}"
                )
        return EnvRecommender(task, policy.scores)

    def write(
        self, env: ReReVectorEnv, policy: Policy
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        """Write one title in each row; return rewards, log-probabilities, decisions [B, G], ..."""
        observation, _ = env.reset()  # goes on with the generators of the seed
        rows = np.arange(env.num_envs)
        logprobs, entropy = torch.zeros(env.num_envs), torch.zeros(env.num_envs)
        num_decisions, num_steps, over = torch.zeros(env.num_envs), 0, False
        while not over:
            legal = torch.from_numpy(env.action_masks())  # of a row that waits: EOS alone
            logits = policy(observation).masked_fill(~legal, -1e9).log_softmax(dim=1)
            actions = torch.multinomial(logits.exp().detach(), 1)
            logprobs = logprobs + logits.gather(1, actions).squeeze(1)
            entropy = entropy - (logits.exp() * logits).sum(1)
            num_decisions += legal.sum(1) > 1  # forced tokens have probability 1
            env.set_scores(rows, logprobs.detach().numpy())
            observation, reward, terminated, _, _ = env.step(actions.squeeze(1).numpy())
            num_steps, over = num_steps + 1, bool(terminated.all())
        groups = (self.num_users, self.group_size)
        num_decisions = num_decisions.clamp(min=1)
        return (
            torch.from_numpy(reward).float().reshape(groups),
            logprobs.reshape(groups),
            num_decisions.reshape(groups),
            (entropy / num_decisions).mean(),
            num_steps,
        )


def main() -> None:
    """Train on a tiny world and print how it compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--world", choices=sorted(WORLDS), default="fifty_items", help="the task")
    parser.add_argument("--steps", type=int, default=600_000, help="environment steps")
    parser.add_argument("--group-size", type=int, default=16, help="titles compared for one user")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="an easier world, for CI")
    args = parser.parse_args()
    world = WORLDS["copy_last" if args.smoke else args.world]()
    learner = GRPO(group_size=args.group_size, verbose=True)
    budget = Budget(steps=60_000 if args.smoke else args.steps)
    entries = {
        "grouped-grpo": learner.train(world.task, budget, seed=args.seed),
        "popularity": Popularity(world.task, world.task.split("train")),
    }
    test = world.task.split("test")
    done = {
        name: evaluate(entry, world.task, test, ks=(1, 5), progress=False)
        for name, entry in entries.items()
    }
    print(evaluation_table(done))
    reached = done["grouped-grpo"].metrics["hit_rate@1"].value
    print(f"\nthe best possible agent hits {world.hit_rate:.3f} at rank 1")
    if reached < 0.8 * world.hit_rate:
        raise SystemExit("it did not learn: does it need more steps?")


if __name__ == "__main__":
    main()
