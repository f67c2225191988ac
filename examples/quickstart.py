"""The environment in one page: make it, play random legal tokens, read the slates. No torch.

python examples/quickstart.py --episodes 3
"""

import argparse

import gymnasium as gym
import numpy as np

import rere_env  # registers the environments


def main() -> None:
    """Play episodes and print what was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--env", default="ReRe-Games-v0", help="environment id")
    parser.add_argument("--episodes", type=int, default=3, help="users to write a slate for")
    parser.add_argument("--slate-size", type=int, default=5, help="titles a slate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="one episode, for CI")
    args = parser.parse_args()

    env = gym.make(args.env, slate_size=args.slate_size, render_mode="ansi")
    titles = env.unwrapped.task.catalogue.titles
    print(f"rere_env {rere_env.__version__}: {args.env}, {len(titles)} titles, ", end="")
    print(f"{env.action_space.n} actions (a word or the end of a title)\n")

    env.action_space.seed(args.seed)
    returns = []
    for episode in range(1 if args.smoke else args.episodes):
        # The seed matters once; afterwards the environment's own generator goes on.
        observation, info = env.reset(seed=args.seed if episode == 0 else None)
        history = [titles[title - 1] for title in observation["history"] if title > 0]
        print(f"user {episode + 1} chose, oldest first:")
        print("".join(f"    {title}\n" for title in history), end="")

        num_tokens, over = 0, False
        while not over:
            if num_tokens == 3:
                print("after three tokens the environment looks like this:")
                print("".join(f"  | {line}\n" for line in env.render().splitlines()), end="")
            # `info["action_mask"]` marks the tokens that continue a title not yet in the slate.
            action = env.action_space.sample(info["action_mask"])
            observation, reward, terminated, truncated, info = env.step(action)
            over = terminated or truncated
            num_tokens += 1

        print(f"random slate, {num_tokens} tokens:")
        for place, title in enumerate(info["slate"], start=1):
            mark = "   <- chosen next" if place == info["target_rank"] else ""
            print(f"  {place:>2} {titles[title]}{mark}")
        print(f"what was chosen next: {titles[info['target']]}; reward {reward:.3f}\n")
        returns.append(reward)
    print(f"mean reward of {len(returns)} random slates: {np.mean(returns):.3f}")
    env.close()


if __name__ == "__main__":
    main()
