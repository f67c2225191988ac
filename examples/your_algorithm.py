"""From nothing to a row of the comparison table: an algorithm of your own in forty lines.

An algorithm is a class with `train(task, budget, *, seed)` that returns something with
`recommend(examples, k)`. This one is Monte Carlo control (Sutton and Barto, section 5.4): a table
of how well it ended to write a token after another for a user who had a title last. It acts
greedily by that table, now and then by chance, and averages what it was paid.

    python examples/your_algorithm.py                      # train, evaluate, print the table
    rere train --algorithm examples.your_algorithm:MonteCarlo

Copy this file, change `train`, and run `agents.testing.check_algorithm("your_module:YourClass")`:
it says what a table would hold against it.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from agents.baselines import Popularity
from agents.budget import Budget
from agents.env_recommender import EnvRecommender
from agents.evaluation import evaluate
from agents.registry import register_algorithm
from agents.reporting import evaluation_table
from rere_env import ReReVectorEnv, Task
from rere_env.worlds import WORLDS

NUM_CELLS = 1_000_003  # of the table; what falls into the same one shares its value


@register_algorithm("monte-carlo", summary="a table of average rewards, acting greedily by it")
class MonteCarlo:
    """Monte Carlo control with a hashed table."""

    def __init__(
        self, num_envs: int = 32, explore: float = 0.1, learning_rate: float = 0.3
    ) -> None:
        """Keep the settings; every one needs a default, for `rere train`."""
        self.num_envs, self.explore, self.learning_rate = num_envs, explore, learning_rate

    def train(self, task: Task, budget: Budget, *, seed: int) -> EnvRecommender:
        """Act until the budget is spent; every title is paid 1 if it is the right one, else 0."""
        env = ReReVectorEnv(
            self.num_envs, task, slate_size=1, reward="hit", mask="lazy", autoreset_mode="SameStep"
        )
        rng, rows = np.random.default_rng(seed), np.arange(self.num_envs)
        num_tokens, length = env.single_action_space.n, task.trie.max_length
        values = np.ones(NUM_CELLS)  # everything is promising until it has been tried
        written = np.zeros((self.num_envs, length), np.int64)  # the cells of each row's episode

        def cells(observation: dict[str, NDArray[np.int64]]) -> NDArray[np.int64]:
            """Return [N, actions] where (last title, last token, next token) is in the table."""
            history, prefix = observation["history"], observation["prefix"]
            last = history[np.arange(len(history)), np.count_nonzero(history, axis=1) - 1]
            before = prefix[np.arange(len(prefix)), np.count_nonzero(prefix, axis=1) - 1]
            state = last * num_tokens + before
            return (state[:, None] * num_tokens + np.arange(num_tokens)) % NUM_CELLS

        meter, steps = budget.start(), 0
        observation, _ = env.reset(seed=seed)
        while not meter.over(steps):
            choices, depth = cells(observation), np.count_nonzero(observation["prefix"], axis=1)
            greedy = np.where(env.action_masks(), values[choices], -np.inf).argmax(axis=1)
            by_chance = rng.random(self.num_envs) < self.explore
            action = np.where(by_chance, env.candidates().sample(rng), greedy)
            written[rows, depth] = choices[rows, action]
            observation, reward, ended, _, _ = env.step(action)
            steps += self.num_envs
            for row in np.flatnonzero(ended):
                seen = written[row, : depth[row] + 1]
                values[seen] += self.learning_rate * (reward[row] - values[seen])
        return EnvRecommender(task, lambda observation: 20 * values[cells(observation)])


def main() -> None:
    """Train on a tiny world and print how it compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--world", choices=sorted(WORLDS), default="fifty_items", help="the task")
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="an easier world, for CI")
    args = parser.parse_args()
    task = WORLDS["copy_last" if args.smoke else args.world]().task
    budget = Budget(steps=20_000 if args.smoke else args.steps)
    entries = {
        "monte-carlo": MonteCarlo().train(task, budget, seed=args.seed),
        "popularity": Popularity(task, task.split("train")),
    }
    test = task.split("test")
    done = {
        name: evaluate(entry, task, test, ks=(1, 5), progress=False)
        for name, entry in entries.items()
    }
    print(evaluation_table(done))
    if done["monte-carlo"].metrics["hit_rate@1"].value < 0.9:
        raise SystemExit("it did not learn: does it need more steps?")


if __name__ == "__main__":
    main()
