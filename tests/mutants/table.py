"""Mistakes of the protocol that must turn a test red, most of them found alive by an audit."""

from tests.mutants.replay import Mutant

__all__ = ["MUTANTS"]

PROTOCOL = "tests/agents/test_protocol.py"
POLICY = f"{PROTOCOL}::test_a_policy_reads_the_test_split_last_and_whole"
AGENT = f"{PROTOCOL}::test_an_agent_learns_from_the_split_that_was_asked_for"
SPLIT = f"{PROTOCOL}::test_a_policy_learns_from_the_split_that_was_asked_for"
CELL = f"{PROTOCOL}::test_a_cell_reads_the_test_split_last_and_whole"
ROWS = f"{PROTOCOL}::test_the_baselines_of_a_comparison_count_the_training_split"
SEEDS = f"{PROTOCOL}::test_the_seed_of_a_cell_reaches_its_algorithm"
REMOTE_CODE = "tests/agents/policy/test_remote_code.py"
VALIDATION = "tests/agents/training/test_validation.py"

MUTANTS = (
    Mutant(
        name="train_selects_on_test",
        file="agents/experiment/policy.py",
        old="        examples = validation_rows(task, self.numbers.valid_rows)\n",
        new='        examples = task.split("test").take(slice(self.numbers.valid_rows))\n',
        test=POLICY,
    ),
    Mutant(
        name="validation_rows_are_of_test",
        file="agents/training/validation.py",
        old='task.split("valid")',
        new='task.split("test")',
        test=POLICY,
    ),
    Mutant(
        name="compare_selects_on_test",
        file="agents/training/budgeted.py",
        old="    examples = validation_rows(task, num_rows)\n",
        new='    examples = task.split("test").take(slice(num_rows))\n',
        test=CELL,
    ),
    Mutant(
        name="compare_evaluates_half",
        file="agents/comparison/cell.py",
        old="    examples = task.split(plan.split)\n",
        new="    examples = task.split(plan.split).take(slice(100))\n",
        test=CELL,
    ),
    Mutant(
        name="popularity_counts_test",
        file="agents/experiment/final.py",
        old="Popularity(task, train_examples)",
        new="Popularity(task, examples)",
        test=POLICY,
    ),
    Mutant(
        name="co_occurrence_counts_test",
        file="agents/experiment/final.py",
        old="CoOccurrence(task, train_examples)",
        new="CoOccurrence(task, examples)",
        test=POLICY,
    ),
    Mutant(
        name="compared_popularity_counts_test",
        file="agents/comparison/run.py",
        old='Popularity(task, task.split("train"))',
        new='Popularity(task, task.split("test"))',
        test=ROWS,
    ),
    Mutant(
        name="compared_co_occurrence_counts_test",
        file="agents/comparison/run.py",
        old='CoOccurrence(task, task.split("train"))',
        new='CoOccurrence(task, task.split("test"))',
        test=ROWS,
    ),
    Mutant(
        name="final_test_cut_to_100_rows",
        file="agents/experiment/final.py",
        old='    examples = task.split("test")\n',
        new='    examples = task.split("test").take(slice(100))\n',
        test=POLICY,
    ),
    Mutant(
        name="train_split_ignored",
        file="agents/experiment/policy.py",
        old="        examples = self.dataset.splits[self.config.train_split]\n",
        new='        examples = self.dataset.splits["train"]\n',
        test=SPLIT,
    ),
    Mutant(
        name="train_split_ignored_by_baselines",
        file="agents/experiment/policy.py",
        old="train_examples=self.dataset.splits[self.config.train_split]",
        new='train_examples=self.dataset.splits["train"]',
        test=SPLIT,
    ),
    Mutant(
        name="train_split_ignored_by_agents",
        file="agents/experiment/agent.py",
        old="Task.build(dataset.with_train(config.train_split), ",
        new="Task.build(dataset, ",
        test=AGENT,
    ),
    Mutant(
        name="agent_seed_ignored",
        file="agents/experiment/agent.py",
        old="algorithm.train(task, budget, seed=config.seed)",
        new="algorithm.train(task, budget, seed=0)",
        test=AGENT,
    ),
    Mutant(
        name="all_seeds_of_a_cell_equal",
        file="agents/comparison/cell.py",
        old="learner.train(task, budget, seed=seed)",
        new="learner.train(task, budget, seed=0)",
        test=SEEDS,
    ),
    Mutant(
        name="all_cells_get_one_seed",
        file="agents/comparison/run.py",
        old="algorithm, str(seed), str(folder)]",
        new='algorithm, "0", str(folder)]',
        test=f"{PROTOCOL}::test_every_seed_is_a_process_of_its_own",
    ),
    Mutant(
        name="budgeted_seed_ignored",
        file="agents/training/budgeted.py",
        old="            budget,\n            seed=seed,\n",
        new="            budget,\n            seed=0,\n",
        test=f"{VALIDATION}::test_the_seed_of_a_training_reaches_its_prompts",
    ),
    Mutant(
        name="validation_rows_redrawn",
        file="agents/training/validation.py",
        old="np.random.default_rng(0)",
        new="np.random.default_rng()",
        test=f"{VALIDATION}::test_the_rows_are_fixed_and_in_file_order",
    ),
    Mutant(
        name="weight_decay_ignored",
        file="agents/training/learners.py",
        old="weight_decay=settings.weight_decay",
        new="weight_decay=0.0",
        test="tests/agents/training/test_learners.py"
        "::test_the_optimiser_decays_weights_as_the_settings_say",
    ),
    Mutant(
        name="rollout_outside_autocast",
        file="agents/rere/agent.py",
        old="        with self.accelerator.autocast():\n            return self.rollout_budget",
        new="        if True:\n            return self.rollout_budget",
        test="tests/agents/rere/test_precision.py",
    ),
    Mutant(
        name="remote_code_of_policies",
        file="agents/policy/backbones.py",
        old="trust_remote_code=False",
        new="trust_remote_code=True",
        test=REMOTE_CODE,
    ),
    Mutant(
        name="remote_code_of_tokenizers",
        file="rere_env/tokenizer.py",
        old="trust_remote_code=False",
        new="trust_remote_code=True",
        test=REMOTE_CODE,
    ),
    Mutant(
        name="tokenizers_ask_on_stdin",
        file="rere_env/tokenizer.py",
        old=", trust_remote_code=False",
        new="",
        test=REMOTE_CODE,
    ),
    Mutant(
        name="remote_code_of_encoders",
        file="agents/rewards/embeddings.py",
        old="dtype=torch.float32, trust_remote_code=False",
        new="dtype=torch.float32, trust_remote_code=True",
        test=REMOTE_CODE,
    ),
    Mutant(
        name="remote_code_of_encoders_tokenizers",
        file="agents/rewards/embeddings.py",
        old="AutoTokenizer.from_pretrained(encoder, trust_remote_code=False)",
        new="AutoTokenizer.from_pretrained(encoder, trust_remote_code=True)",
        test=REMOTE_CODE,
    ),
    Mutant(
        name="resume_imports_what_the_run_names",
        file="agents/experiment/policy.py",
        old="    check_plugin(path, config.algorithm, plugin)\n",
        new="",
        test="tests/agents/runs/test_checks.py::test_resume_imports_nothing_on_its_own",
    ),
)
