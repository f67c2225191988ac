"""TRL's GRPOTrainer on our prompts, rewards and beams: twelve games, and each has a successor.

The data set, the reward function and the rollout function are all that TRL needs; what it has
trained is scored like any other recommender. Needs `pip install "rere-env[trl]"`.

    python examples/trl_grpo.py
"""

import argparse
import os
import tempfile

from trl import GRPOConfig, GRPOTrainer

from agents.adapters.trl import prompt_dataset, reward_function, rollout_function
from agents.evaluation import evaluate
from agents.language_model import LanguageModel
from agents.lm_recommender import LMRecommender
from agents.policy import load_backbone
from rere_env.worlds import successor


def main() -> None:
    """Train and print how often the best title is the right one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=150, help="optimiser steps")
    parser.add_argument("--group-size", type=int, default=12, help="titles a prompt")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="two steps, for CI")
    args = parser.parse_args()

    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # `rollout_func` may change: we know
    dataset = successor().task.dataset
    backbone = load_backbone("scratch:nano", dataset.catalogue.titles, seed=args.seed)
    task = backbone.task(dataset)
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            backbone.model,
            reward_funcs=reward_function(task, args.group_size),
            rollout_func=rollout_function(task),
            train_dataset=prompt_dataset(task),
            processing_class=backbone.tokenizer.tokenizer,
            args=GRPOConfig(
                output_dir=folder,
                max_steps=2 if args.smoke else args.steps,
                num_generations=args.group_size,
                per_device_train_batch_size=12 * args.group_size,
                learning_rate=args.learning_rate,
                gradient_checkpointing=None,
                bf16=False,
                dataloader_pin_memory=False,
                logging_steps=25,
                save_strategy="no",
                report_to="none",
                seed=args.seed,
            ),
        )
        trainer.train()
    recommender = LMRecommender(task, LanguageModel(trainer.model.eval()))
    done = evaluate(recommender, task, task.split("test"), ks=(1, 5), num_resamples=0)
    for name in ("hit_rate@1", "hit_rate@5"):
        print(f"{name} {done.metrics[name].value:.3f}")
    print(f"illegal rate {done.illegal_rate:.3f}; chance of hit_rate@1 is {1 / 12:.3f}")


if __name__ == "__main__":
    main()
