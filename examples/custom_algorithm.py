"""An algorithm of your own over the vector environment: REINFORCE in forty lines of NumPy.

The world is twelve games, and whoever played one wants the next of the list. The policy is a
table of logits (last title, last token -> next token); `action_masks()` keeps it to real titles.
Chance is 1 in 12; within seconds it hits almost always.

    python examples/custom_algorithm.py
"""

import argparse

import numpy as np

from rere_env import Batch, Catalogue, Dataset, ReReVectorEnv, Task

GAMES = [f"{name} {part}" for name in ("Star Quest", "Moon Racer", "Star Farm") for part in "1234"]


def sequel_world() -> Task:
    """Build a task by hand: each title's target is the next one of the list."""
    catalogue = Catalogue.from_items([f"game-{i}" for i in range(len(GAMES))], GAMES)
    last = np.arange(len(GAMES))
    target = (last + 1) % len(GAMES)
    examples = Batch(
        user=last, history=last[:, None], target=target, target_title=catalogue.item_title[target]
    )
    dataset = Dataset(
        name="sequels",
        catalogue=catalogue,
        splits={"train": examples},
        history_length=1,
        content_hash="",
        report={},
    )
    return Task.build(dataset)


def reinforce(env: ReReVectorEnv, num_steps: int, learning_rate: float, seed: int) -> float:
    """Train for a number of vector steps; return the hit rate of the last thousand episodes."""
    rng, rows = np.random.default_rng(seed), np.arange(env.num_envs)
    num_tokens, length = env.single_action_space.n, env.single_observation_space["prefix"].shape[0]
    logits = np.zeros((env.task.catalogue.num_titles, num_tokens, num_tokens))
    # What each row wrote in this episode: the token before, and the gradient of log p.
    tokens_before = np.zeros((env.num_envs, length + 1), np.int64)
    gradients = np.zeros((env.num_envs, length + 1, num_tokens))
    hits: list[float] = []
    observation, _ = env.reset(seed=seed)
    for step in range(1, num_steps + 1):
        # 1. The policy: a softmax over the legal tokens.
        title, prefix = observation["history"][:, -1] - 1, observation["prefix"]
        depth = np.count_nonzero(prefix, axis=1)
        before = np.where(depth > 0, prefix[rows, depth - 1], 0)
        scores = np.where(env.action_masks(), logits[title, before], -np.inf)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True)).cumsum(axis=1)
        action = (weights > rng.random((env.num_envs, 1)) * weights[:, -1:]).argmax(axis=1)
        probabilities = np.diff(weights, prepend=0, axis=1) / weights[:, -1:]
        tokens_before[rows, depth] = before
        gradients[rows, depth] = np.eye(num_tokens)[action] - probabilities

        # 2. The environment. A row that ended is reset by the next step, whatever its action.
        observation, reward, terminated, *_ = env.step(action)

        # 3. REINFORCE on the titles that are complete: advantage x gradient, at every token.
        hits += reward[terminated].tolist()
        baseline = np.mean(hits[-1000:] or [0.0])
        for position in range(length + 1):
            ended = np.flatnonzero(terminated & (depth >= position))
            update = (reward[ended] - baseline)[:, None] * gradients[ended, position]
            np.add.at(
                logits, (title[ended], tokens_before[ended, position]), learning_rate * update
            )
        if step % (num_steps // 10) == 0:
            print(
                f"step {step:>5}   episodes {len(hits):>6}   hit rate {np.mean(hits[-1000:]):.3f}"
            )
    return float(np.mean(hits[-1000:]))


def main() -> None:
    """Train and print the hit rate as it rises."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2000, help="vector steps")
    parser.add_argument("--learning-rate", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="fewer steps, for CI")
    args = parser.parse_args()
    env = ReReVectorEnv(args.num_envs, sequel_world(), slate_size=1, reward="hit", mask="lazy")
    num_steps = 1000 if args.smoke else args.steps
    hit_rate = reinforce(env, num_steps, args.learning_rate, args.seed)
    print(f"hit rate {hit_rate:.3f}; chance is {1 / len(GAMES):.3f}")
    if hit_rate < 0.8:
        raise SystemExit("it did not learn: is the learning rate too high?")


if __name__ == "__main__":
    main()
