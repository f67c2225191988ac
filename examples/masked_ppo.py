"""Masked PPO in one file, over the native vector environment: no RL library, only torch.

The policy reads the ids of the observation (the titles of the history and of the slate, the tokens
written so far) through embeddings, and gives logits to the tokens of the catalogue. Those that
`action_masks()` forbids get probability 0, in acting as in learning, so whatever is written is a
title. Rewards come at the end of an episode of a few tokens, so gamma is 1. Everything else is
PPO as usual: generalised advantages, a clipped ratio, some epochs over each rollout.

    python examples/masked_ppo.py                     # fifty titles, under a minute on one core
    python examples/masked_ppo.py --world ordered_slates --steps 200000

What comes out is a `Recommender`: a beam search over the policy, scored as any other.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Categorical

from agents.baselines import Popularity
from agents.budget import Budget
from agents.env_recommender import EnvRecommender
from agents.evaluation import evaluate
from agents.reporting import evaluation_table
from rere_env import ReReVectorEnv, Task
from rere_env.worlds import WORLDS

# N rows, S steps a rollout, n actions.

Observation = dict[str, NDArray[np.int64]]


class ActorCritic(nn.Module):
    """Embeddings of all ids, side by side, then two small heads."""

    def __init__(self, env: ReReVectorEnv, width: int) -> None:
        """Size the layers by the spaces of the environment."""
        super().__init__()
        sizes = {name: space.shape[0] for name, space in env.single_observation_space.items()}
        self.title = nn.Embedding(env.task.catalogue.num_titles + 1, width, padding_idx=0)
        self.token = nn.Embedding(env.task.title_tokens.num_tokens, width, padding_idx=0)
        self.body = nn.Sequential(nn.Linear(sum(sizes.values()) * width, 128), nn.Tanh())
        self.actor = nn.Linear(128, int(env.single_action_space.n))
        self.critic = nn.Linear(128, 1)
        nn.init.normal_(self.actor.weight, std=0.01)  # the first policy is nearly uniform

    def forward(self, observation: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits [N, n] and values [N]."""
        parts = [
            self.title(observation["history"]),
            self.title(observation["slate"]),
            self.token(observation["prefix"]),
        ]
        hidden = self.body(torch.cat(parts, dim=1).flatten(1))
        return self.actor(hidden), self.critic(hidden).squeeze(1)

    def act(self, observation: dict[str, Tensor], masks: Tensor) -> tuple[Categorical, Tensor]:
        """Return the distribution over the legal actions, and values [N]."""
        logits, values = self(observation)
        return Categorical(logits=logits.masked_fill(~masks, -1e9), validate_args=False), values

    def scores(self, observation: Observation) -> NDArray[np.float32]:
        """Return logits [N, n], as an `EnvRecommender` wants them."""
        with torch.no_grad():
            return self(as_tensors(observation))[0].numpy()


@dataclass(slots=True)
class Rollout:
    """S steps of N rows; every tensor [S, N] or longer."""

    observation: dict[str, Tensor]
    masks: Tensor
    actions: Tensor
    logprobs: Tensor
    values: Tensor
    advantages: Tensor

    def rows(self) -> "Rollout":
        """Return the steps of all rows as rows, [S x N]."""
        flat = {name: ids.flatten(0, 1) for name, ids in self.observation.items()}
        rest = (self.masks, self.actions, self.logprobs, self.values, self.advantages)
        return Rollout(flat, *(values.flatten(0, 1) for values in rest))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedPPO:
    """PPO (arXiv 1707.06347) with invalid actions masked (arXiv 2006.14171)."""

    slate_size: int = 1
    num_envs: int = 64
    num_steps: int = 32
    num_epochs: int = 4
    num_minibatches: int = 4
    learning_rate: float = 3e-3
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_weight: float = 0.2
    value_weight: float = 0.5
    max_grad_norm: float = 0.5
    width: int = 64
    verbose: bool = False

    def train(self, task: Task, budget: Budget, *, seed: int) -> EnvRecommender:
        """Act and learn by turns until the budget is spent."""
        torch.manual_seed(seed)
        env = ReReVectorEnv(
            self.num_envs, task, slate_size=self.slate_size, mask="lazy", autoreset_mode="SameStep"
        )
        policy = ActorCritic(env, self.width)
        optimizer = torch.optim.Adam(policy.parameters(), lr=self.learning_rate, eps=1e-5)
        observation, _ = env.reset(seed=seed)
        meter, steps, returns = budget.start(), 0, [0.0]
        while not meter.over(steps):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * (1 - meter.used(steps))
            rollout, observation = self.collect(env, policy, observation, returns)
            steps += self.num_steps * self.num_envs
            self.update(policy, optimizer, rollout.rows())
            if self.verbose and steps % (10 * self.num_steps * self.num_envs) == 0:
                recent = np.mean(returns[-1000:])
                print(f"step {steps:>7}   {meter.seconds:>5.1f} s   mean return {recent:.3f}")
        return EnvRecommender(task, policy.scores, slate_size=self.slate_size)

    @torch.no_grad()
    def collect(
        self,
        env: ReReVectorEnv,
        policy: ActorCritic,
        observation: Observation,
        returns: list[float],
    ) -> tuple[Rollout, Observation]:
        """Act for S steps; return them and the observation after them. Appends the returns."""
        seen, rewards, ended = [], [], []
        for _ in range(self.num_steps):
            shown, masks = as_tensors(observation), torch.from_numpy(env.action_masks())
            distribution, values = policy.act(shown, masks)
            actions = distribution.sample()
            observation, reward, terminated, _, _ = env.step(actions.numpy())
            seen.append((shown, masks, actions, distribution.log_prob(actions), values))
            rewards.append(torch.from_numpy(reward.astype(np.float32)))
            ended.append(torch.from_numpy(terminated))
            returns += reward[terminated].tolist()
        shown, *others = zip(*seen, strict=True)
        masks, actions, logprobs, values = map(torch.stack, others)
        after = policy(as_tensors(observation))[1]
        rollout = Rollout(
            {name: torch.stack([step[name] for step in shown]) for name in shown[0]},
            masks,
            actions,
            logprobs,
            values,
            self.advantages(torch.stack(rewards), torch.stack(ended), values, after),
        )
        return rollout, observation

    def advantages(self, rewards: Tensor, ended: Tensor, values: Tensor, after: Tensor) -> Tensor:
        """Return generalised advantages [S, N] (arXiv 1506.02438) at gamma 1."""
        advantages, following = torch.zeros_like(rewards), torch.zeros_like(after)
        for step in reversed(range(len(rewards))):
            goes_on = (~ended[step]).float()  # nothing is paid after the end
            error = rewards[step] + goes_on * after - values[step]
            following = error + goes_on * self.gae_lambda * following
            advantages[step], after = following, values[step]
        return advantages

    def update(self, policy: ActorCritic, optimizer: torch.optim.Optimizer, old: Rollout) -> None:
        """Go over the rollout several times in minibatches."""
        for _ in range(self.num_epochs):
            for rows in torch.randperm(len(old.actions)).chunk(self.num_minibatches):
                shown = {name: ids[rows] for name, ids in old.observation.items()}
                distribution, values = policy.act(shown, old.masks[rows])
                logprobs, gain = distribution.log_prob(old.actions[rows]), old.advantages[rows]
                target = gain + old.values[rows]
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
                ratio = torch.exp(logprobs - old.logprobs[rows])
                clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
                loss = (
                    -torch.minimum(ratio * gain, clipped * gain).mean()
                    + self.value_weight * (values - target).square().mean()
                    - self.entropy_weight * distribution.entropy().mean()
                )
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(policy.parameters(), self.max_grad_norm)
                optimizer.step()


def as_tensors(observation: Observation) -> dict[str, Tensor]:
    """Return the same ids as tensors."""
    return {name: torch.from_numpy(ids) for name, ids in observation.items()}


def main() -> None:
    """Train on a tiny world and print how it compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--world", choices=sorted(WORLDS), default="fifty_items", help="the task")
    parser.add_argument("--steps", type=int, default=200_000, help="environment steps")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="an easier world, for CI")
    args = parser.parse_args()
    world = WORLDS["copy_last" if args.smoke else args.world]()
    learner = MaskedPPO(slate_size=world.slate_size, learning_rate=args.learning_rate, verbose=True)
    budget = Budget(steps=20_480 if args.smoke else args.steps)
    entries = {
        "masked-ppo": learner.train(world.task, budget, seed=args.seed),
        "popularity": Popularity(world.task, world.task.split("train")),
    }
    test = world.task.split("test")
    done = {
        name: evaluate(entry, world.task, test, ks=(1, 5), progress=False)
        for name, entry in entries.items()
    }
    print(evaluation_table(done))
    reached = done["masked-ppo"].metrics["hit_rate@1"].value
    print(f"\nthe best possible agent hits {world.hit_rate:.3f} at rank 1")
    if reached < 0.8 * world.hit_rate:
        raise SystemExit("it did not learn: does it need more steps?")


if __name__ == "__main__":
    main()
