"""What several processes save and validate: one writes, all wait, each row is searched once."""

import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from agents.experiment.policy import train
from agents.language_model import LanguageModel
from agents.lm_recommender import LMRecommender
from agents.policy import load_backbone
from agents.runs import folder as run_folder
from agents.runs.config import TrainConfig
from agents.runs.folder import Progress, RunFolder, Stage
from agents.runs.numbers import StageSettings
from agents.training.fit import fit
from agents.training.validation import validate
from rere_env.worlds import noisy_successor

WORLD = noisy_successor(30).task
DELAY_S = 0.2


class KilledError(Exception):
    """The process dies here."""


class Drawing:
    """A learner whose steps draw from torch's generator, as dropout does."""

    name = "drawing"
    num_steps = 4

    def __init__(self, accelerator, kill_at=None):
        """Draw nothing yet."""
        self.accelerator, self.kill_at = accelerator, kill_at
        weight = torch.nn.Linear(1, 1)
        self.module, self.optimizer = accelerator.prepare(
            weight, torch.optim.SGD(weight.parameters(), lr=0.0)
        )
        self.draws, self.began, self.ended = {}, [], []

    def update(self, step):
        """Draw; the second process takes longer."""
        if step == self.kill_at:
            raise KilledError
        self.began.append(time.time())
        self.draws[step] = torch.rand(1).item()
        time.sleep(DELAY_S * self.accelerator.process_index)
        self.ended.append(time.time())
        return {}

    def save_policy(self, folder):
        """Nothing."""

    save_extra = load_extra = save_policy


def fit_drawing(accelerator, run, progress, kill_at=None):
    """Save before the first step and after each second one; writing takes a while."""
    learner, written = Drawing(accelerator, kill_at), []

    def write(progress, save_state):
        written.append(time.time())
        time.sleep(DELAY_S)
        RunFolder.save_progress(run, progress, save_state)
        written.append(time.time())

    run.save_progress = write
    settings = StageSettings(learning_rate=1.0, num_evaluations=1, num_saves=2)
    set_seed(0, device_specific=True)
    try:
        fit(learner, lambda: {"valid/ndcg@10": 1.0}, settings, run, progress, accelerator)
    except KilledError:
        assert kill_at is not None
    accelerator.free_memory()
    return learner, [*written, time.time()]


def draw_and_resume(accelerator, folder):
    """Fit twice: in one go, and killed after a save and resumed."""
    if accelerator.is_main_process:
        for name in ("whole", "broken"):
            RunFolder.create(Path(folder), name, {})
    accelerator.wait_for_everyone()
    whole, written = fit_drawing(accelerator, RunFolder(Path(folder) / "whole"), Progress())
    broken = RunFolder(Path(folder) / "broken")
    fit_drawing(accelerator, broken, Progress(), kill_at=3)
    with accelerator.main_process_first():
        progress = broken.load_progress()
    torch.rand(7)  # another process would stand elsewhere
    resumed, _ = fit_drawing(accelerator, broken, progress)
    return {
        "whole": whole.draws,
        "resumed": resumed.draws,
        "began": whole.began,
        "ended": whole.ended,
        "written": written,
    }


def search_and_validate(accelerator):
    """Look for titles in batches of four, and measure them."""
    backbone = load_backbone("scratch:nano", WORLD.catalogue.titles)
    task = backbone.task(WORLD.dataset)
    model = LanguageModel(backbone.model).eval()
    policy = LMRecommender(task, model, beam=10, batch_size=4, accelerator=accelerator)
    searched = []
    search = policy._search

    def counting(policy, prompts, width):
        searched.append(len(prompts))
        return search(policy, prompts, width)

    policy._search = counting
    examples = task.split("valid").take(range(30))
    found = policy.search(examples, 10)
    return {
        "num_searched": sum(searched),
        "titles": torch.from_numpy(found.titles),
        "logprobs": torch.from_numpy(found.logprobs),
        "measures": validate(policy, task, examples),
    }


def do_all(accelerator, folder):
    """All that two processes are asked: they take seconds to start."""
    return {
        "saved": draw_and_resume(accelerator, folder),
        "searched": search_and_validate(accelerator),
    }


@pytest.fixture(scope="module")
def two(in_processes, tmp_path_factory):
    """What each of two processes did."""
    return in_processes(do_all, folder=str(tmp_path_factory.mktemp("runs")))


@pytest.mark.slow
def test_every_process_resumes_its_own_generator(two):
    """The draws after a save are those of the run that never stopped, others on each process."""
    first, second = (found["saved"] for found in two)
    for found in (first, second):
        assert found["resumed"] == {step: found["whole"][step] for step in (2, 3)}
    assert set(first["whole"].values()).isdisjoint(second["whole"].values())


@pytest.mark.slow
def test_saving_begins_when_all_are_there_and_nobody_goes_on_before_it_is_written(two):
    """The main process writes alone: before steps 0 and 2, and at the end."""
    first, second = (found["saved"] for found in two)
    *begins_and_ends, _ = first["written"]
    begins, ends = begins_and_ends[::2], begins_and_ends[1::2]
    assert len(begins) == 3
    [left] = second["written"]  # it wrote nothing
    assert begins[1] > second["ended"][1]
    assert begins[2] > second["ended"][3]
    assert second["began"][0] > ends[0]
    assert second["began"][2] > ends[1]
    assert left > ends[2]


@pytest.mark.slow
def test_searched_rows_are_shared_and_the_result_is_that_of_one_process(two):
    """Bit for bit; each process searches about half of the batches."""
    expected = search_and_validate(Accelerator(cpu=True))
    assert [found["searched"]["num_searched"] for found in two] == [16, 14]
    for found in two:
        searched = found["searched"]
        assert torch.equal(searched["titles"], expected["titles"])
        assert torch.equal(searched["logprobs"], expected["logprobs"])
        assert searched["measures"] == expected["measures"]


def train_slowly(accelerator, data, runs_dir):
    """The main job, in which the main process writes for a while whenever it saves."""
    write_json, changed = run_folder.write_json, []

    def slow(path, value):
        time.sleep(DELAY_S)
        write_json(path, value)

    def watch(event, args):
        is_opened = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
        if (is_opened or event in CHANGES) and str(args[0]).startswith(runs_dir):
            changed.append(f"{event} {args[0]}")

    if accelerator.is_main_process:
        run_folder.write_json = slow
    sys.addaudithook(watch)
    config = TrainConfig(data=data, preset="smoke", device="cpu", sft_epochs=1, rl_steps=2)
    run = RunFolder(train(config, Path(runs_dir), "run"))
    return {
        "changed": list(changed),
        "is_done": run.load_progress().stage is Stage.DONE and run.result.is_file(),
    }


CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}
"""What Python says it is about to do when it changes a folder."""


@pytest.mark.slow
def test_the_main_process_alone_writes_a_run(in_processes, data, tmp_path):
    """However long it takes, the run's last state can be read, and it has its result."""
    first, second = in_processes(train_slowly, data=str(data), runs_dir=str(tmp_path))
    assert first["changed"]
    assert second["changed"] == []
    assert first["is_done"]
