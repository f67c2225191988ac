"""Agents of Tianshou 2.x on our environment: the DQN family, PPO and REINFORCE.

    trained = DQN().train(task, Budget(steps=150_000), seed=0)
    trained.recommend(task.split("test"), 10)

They act on tokens under masks, so that no episode ends in an illegal one: Tianshou's Q-learning
masks values and exploration by itself, its actors need a `MaskedActor`. With `decisions=True` they
act on `DecisionActions` instead, where every action is legal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium.spaces import Discrete

from agents.adapters.saved import load_settings, load_weights
from agents.adapters.tianshou.base import (
    LIBRARY,
    Agent,
    TrainedAgent,
)  # first: names a missing extra
from agents.adapters.tianshou.nets import Critic, IdNet, MaskedActor, ValueNet
from agents.adapters.tianshou.play import Player
from agents.budget import Budget
from agents.randomness import own_generators
from rere_env.task import Task

# isort: split
from tianshou.algorithm.modelfree import dqn, ppo, qrdqn, reinforce
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.utils.torch_utils import policy_within_training_step

__all__ = ["DQN", "PPO", "QRDQN", "Agent", "Reinforce", "TrainedAgent", "load_agent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DQN(Agent):
    """Double deep Q-learning: explores less and less, learns from what it remembers.

    A single one (`is_double=False`) would look for the best next value among illegal actions too.

    Attributes:
        num_envs: N, users at once.
        buffer_size: Steps remembered, each with its masks before and after.
        batch_size: Steps an update learns from.
        num_updates: Updates after each step of all rows.
        num_returns: Rewards added up before the value of what comes next counts.
        target_update: Updates between two renewals of the target network.
        exploration: Share of the budget in which the share of random actions falls from 1.
        epsilon: Where it ends.
        temperature: Titles are ranked by the softmax of values divided by this.
    """

    num_envs: int = 64
    learning_rate: float = 1e-3
    buffer_size: int = 50_000
    batch_size: int = 256
    num_updates: int = 2
    num_returns: int = 3
    target_update: int = 100
    exploration: float = 0.6
    epsilon: float = 0.05
    temperature: float = 0.05

    def __post_init__(self) -> None:
        """Check what is divided by."""
        for name, value in (("exploration", self.exploration), ("temperature", self.temperature)):
            if value <= 0:
                raise ValueError(f"`{name}` (={value}) must be positive.")

    def train(self, task: Task, budget: Budget, *, seed: int) -> TrainedAgent:
        """Learn from all that is remembered, after every step of all rows."""
        with own_generators(seed):
            env, net = self.make_env(task), self.make_net(task)
            env.seed(seed)
            algorithm = self._make_algorithm(net, env.get_env_attr("action_space", 0)[0])
            policy = algorithm.policy
            player, num_steps = Player(policy, env, self.buffer_size), 0
            meter = budget.start()  # now that Tianshou has compiled what it compiles
            with policy_within_training_step(policy):
                while not meter.over(num_steps):
                    explored = min(1.0, meter.used(num_steps) / self.exploration)
                    policy.set_eps_training(1 - (1 - self.epsilon) * explored)
                    num_steps += player.go_on()
                    for _ in range(self.num_updates):
                        algorithm.update(player.buffer, self.batch_size)
        return self.trained(task, net)

    def trained(self, task: Task, net: IdNet) -> TrainedAgent:
        """Return the recommender that acts by the values of a network."""
        return TrainedAgent(self, task, net, temperature=self.temperature)

    def _make_algorithm(
        self, net: IdNet, actions: Discrete
    ) -> dqn.QLearningOffPolicyAlgorithm[Any]:
        policy = dqn.DiscreteQLearningPolicy(model=ValueNet(net), action_space=actions)
        return dqn.DQN(
            policy=policy,
            optim=_adam(self),
            gamma=self.gamma,
            n_step_return_horizon=self.num_returns,
            target_update_freq=self.target_update,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QRDQN(DQN):
    """Deep Q-learning of the distribution of values, by its quantiles.

    Attributes:
        quantiles: How many.
    """

    quantiles: int = 16

    def make_net(self, task: Task) -> IdNet:
        """Make a network with new weights; the value of an action is the mean of its quantiles."""
        return self._make_net(task, self._num_actions(task), self.quantiles)

    def _make_algorithm(
        self, net: IdNet, actions: Discrete
    ) -> dqn.QLearningOffPolicyAlgorithm[Any]:
        policy = qrdqn.QRDQNPolicy(model=ValueNet(net), action_space=actions)
        return qrdqn.QRDQN(
            policy=policy,
            optim=_adam(self),
            gamma=self.gamma,
            num_quantiles=self.quantiles,
            n_step_return_horizon=self.num_returns,
            target_update_freq=self.target_update,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PPO(Agent):
    """Proximal policy optimisation: clipped steps from whole episodes, with a critic.

    Attributes:
        num_epochs: Passes over the episodes of all rows.
        batch_size: Steps an update learns from.
        clip: How far the ratio of probabilities may move from 1.
        entropy: Weight of the entropy.
        gae_lambda: Of the advantage estimates; 1: returns less the critic's value.
        max_grad_norm: Longer gradients are shortened.
    """

    num_epochs: int = 4
    batch_size: int = 256
    clip: float = 0.2
    entropy: float = 0.06
    gae_lambda: float = 0.95
    max_grad_norm: float = 0.5

    def train(self, task: Task, budget: Budget, *, seed: int) -> TrainedAgent:
        """Learn from one episode of every row, again and again."""

        def algorithm(policy: reinforce.DiscreteActorPolicy) -> ppo.PPO:
            return ppo.PPO(
                policy=policy,
                critic=Critic(self._make_net(task, 1)),
                optim=_adam(self),
                gamma=self.gamma,
                eps_clip=self.clip,
                ent_coef=self.entropy,
                gae_lambda=self.gae_lambda,
                max_grad_norm=self.max_grad_norm,
            )

        return _learn_from_episodes(
            self,
            algorithm,
            task,
            budget,
            seed=seed,
            batch_size=self.batch_size,
            repeat=self.num_epochs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reinforce(Agent):
    """The plain policy gradient, of returns less their running mean, over their deviation.

    Attributes:
        num_envs: N, users at once, and episodes an update learns from.
    """

    num_envs: int = 64

    def train(self, task: Task, budget: Budget, *, seed: int) -> TrainedAgent:
        """Learn from one episode of every row, again and again."""

        def algorithm(policy: reinforce.DiscreteActorPolicy) -> reinforce.Reinforce:
            # Without, a miss would teach nothing: Tianshou's REINFORCE has no other baseline.
            return reinforce.Reinforce(
                policy=policy, optim=_adam(self), gamma=self.gamma, return_standardization=True
            )

        return _learn_from_episodes(
            self, algorithm, task, budget, seed=seed, batch_size=None, repeat=1
        )


def load_agent(folder: str | Path, task: Task) -> TrainedAgent:
    """Return what `TrainedAgent.save` wrote; nothing is unpickled.

    Args:
        folder: Where to.
        task: Of the same catalogue and tokenizer.

    Raises:
        FileNotFoundError: The folder holds no agent.
        ValueError: It is of another library, was trained on other titles, or a file is broken.
    """
    kinds: dict[str, type[Agent]] = {made.__name__: made for made in (DQN, PPO, QRDQN, Reinforce)}
    agent = load_settings(folder, task, kinds, library=LIBRARY)
    with own_generators():
        net = agent.make_net(task)
    load_weights(folder, net)
    return agent.trained(task, net)


def _learn_from_episodes(
    agent: Agent,
    make_algorithm: Callable[[reinforce.DiscreteActorPolicy], ppo.PPO | reinforce.Reinforce],
    task: Task,
    budget: Budget,
    *,
    seed: int,
    batch_size: int | None,
    repeat: int,
) -> TrainedAgent:
    """Play one episode in every row, learn from them, forget them, as long as the budget lasts."""
    with own_generators(seed):
        env, net = agent.make_env(task), agent.make_net(task)
        env.seed(seed)
        (actions,) = env.get_env_attr("action_space", 0)
        policy = reinforce.DiscreteActorPolicy(
            actor=MaskedActor(net),  # type: ignore[arg-type]  # any module that is called alike
            action_space=actions,
        )
        algorithm = make_algorithm(policy)
        longest = agent.slate_size * task.trie.max_length
        player, num_steps = Player(policy, env, agent.num_envs * longest), 0
        meter = budget.start()  # now that Tianshou has compiled what it compiles
        with policy_within_training_step(policy):
            while not meter.over(num_steps):
                num_steps += player.play()
                algorithm.update(player.buffer, batch_size=batch_size, repeat=repeat)
    return agent.trained(task, net)


def _adam(agent: Agent) -> AdamOptimizerFactory:
    return AdamOptimizerFactory(lr=agent.learning_rate)
