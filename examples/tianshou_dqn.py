"""Tianshou's DQN on our environment: masked Q-learning that writes titles token by token.

The world is fifty titles, and whoever had one wants its successor. Chance is 1 in 50; after
100,000 tokens, about a minute, most users get what they want. The agent is saved, loaded again and
asked for the three best titles of one user.

    python examples/tianshou_dqn.py
"""

import argparse
import tempfile

import numpy as np

from agents.adapters.tianshou import DQN, TrainedAgent, load_agent
from agents.budget import Budget
from rere_env.worlds import fifty_items, successor


def hit_rate(agent: TrainedAgent) -> float:
    """Return how many of the users get what they want first."""
    users = agent.task.split("train")
    return float(np.mean(agent.recommend(users, 1)[:, 0] == users.target_title))


def main() -> None:
    """Train, save, load and recommend."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=100_000, help="tokens written in training")
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="twelve titles, fewer steps, for CI")
    args = parser.parse_args()
    task = (successor() if args.smoke else fifty_items()).task
    dqn = DQN(num_envs=args.num_envs, learning_rate=args.learning_rate)
    budget = Budget(steps=15_000 if args.smoke else args.steps)
    trained = dqn.train(task, budget, seed=args.seed)

    with tempfile.TemporaryDirectory() as folder:
        trained.save(folder)
        agent = load_agent(folder, task)
    user = task.split("train").take(slice(0, 1))
    print(f"last    {task.decode_title(task.catalogue.item_title[user.history[0, -1]])}")
    print(f"wants   {task.decode_title(user.target_title[0])}")
    for place, title in enumerate(agent.recommend(user, 3)[0], start=1):
        print(f"best {place}  {task.decode_title(title)}")
    rate = hit_rate(agent)
    print(f"hit rate {rate:.3f}; chance is {1 / task.trie.num_titles:.3f}")
    if rate < 0.5:
        raise SystemExit("it did not learn: is the learning rate too high?")


if __name__ == "__main__":
    main()
