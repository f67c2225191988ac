"""The benchmarks of the engine in small: peers and ours agree, and what differs is not reported."""

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.bench.engine import models, search, step, update, workload
from agents.bench.engine import run as engine
from agents.bench.engine.growth import search_growth, update_growth
from agents.bench.engine.models import make_model
from agents.bench.engine.plain import (
    assert_same_gradient,
    assert_same_titles,
    decision_beams,
    recall,
)
from agents.bench.engine.released import ReleasedMask, nested_dicts, prefix_table
from agents.bench.engine.scores import UserScores
from agents.bench.engine.workload import Setting, Workload, make_task, make_workload
from agents.cli import main
from agents.policy import Policy
from agents.scoring import score_catalogue
from agents.search import beam_search, exact_search, radix_search, sample
from rere_env.prompts import Prompts

TINY = Setting(
    num_users=3,
    num_users_wide=2,
    group_size=4,
    wide=7,
    prompt_length=9,
    prompt_length_update=9,
    rounds=2,
    times=1,
    num_checked=(2, 4),
    num_weighed=2,
)


@pytest.fixture(autouse=True)
def tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of 16 numbers a token; catalogues of 150 titles."""
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1}
    for name in ("small", "half_b"):
        monkeypatch.setitem(models.SHAPES, name, models.SHAPES[name] | shape)
    monkeypatch.setattr(engine, "make_task", functools.partial(make_task, num_titles=150))
    monkeypatch.setattr(engine, "QUICK", dict.fromkeys(engine.MEASURES, TINY))


@pytest.fixture
def small_workload(tiny_models: None) -> Workload:
    """Three users in a catalogue of 150 titles."""
    task = make_task(num_titles=150)
    return make_workload(task, make_model("small", task.tokenizer.eos_id), 3, 9)


def test_scores_are_probabilities():
    """Those of all titles of a user sum to one, and no two users are alike."""
    scores = UserScores(make_task(num_titles=150).trie, 3)
    probability = np.exp(scores.titles())
    np.testing.assert_allclose(probability.sum(1), 1.0, atol=1e-6)
    assert np.abs(probability[0] - probability[1]).max() > 0.01


def test_scores_of_a_user_do_not_depend_on_the_others():
    """The first two of five users are the two of two users."""
    trie = make_task(num_titles=50).trie
    np.testing.assert_array_equal(UserScores(trie, 5).table[:2], UserScores(trie, 2).table)


def test_the_score_of_a_title_is_the_sum_along_its_path():
    """Token by token, from the root."""
    task = make_task(num_titles=40)
    scores = UserScores(task.trie, 2)
    paths = task.trie.paths(np.arange(40))
    slow = [[scores.table[user, path[path > 0]].sum() for path in paths] for user in range(2)]
    np.testing.assert_allclose(scores.titles(), slow, atol=1e-5)


@pytest.mark.parametrize("support", ["catalogue", "vocabulary"])
@pytest.mark.parametrize("method", [beam_search, radix_search, exact_search, sample])
def test_every_search_walks_by_the_synthetic_scores(small_workload, method, support):
    """Log-probabilities are those of the table, for prompts that share a row of the cache."""
    found = method(
        Policy(lm=small_workload.lm, trie=small_workload.trie, support=support),
        Prompts(small_workload.prompts),
        5,
    )
    expected = np.take_along_axis(small_workload.scores.titles(), found.titles, 1)
    np.testing.assert_allclose(found.logprobs, expected, atol=1e-4)


def test_the_whole_catalogue_is_scored_by_the_synthetic_scores(small_workload):
    """For some of the users, in any order."""
    rows = np.array([2, 0])
    scores = score_catalogue(
        Policy.of(small_workload.lm, small_workload.task),
        small_workload.task.prompts(small_workload.examples.take(rows)),
    )
    np.testing.assert_allclose(scores, small_workload.scores.titles()[rows], atol=1e-4)


def test_training_passes_are_left_alone(small_workload):
    """The update learns from the model's own log-probabilities."""
    updates = update.Updates.of(small_workload, 4)
    ours = update.gradient(small_workload.model, lambda: updates.ours("vocabulary"))
    theirs = update.gradient(small_workload.model, lambda: updates.released(12))
    assert assert_same_gradient(ours, theirs) <= 1e-5


def test_the_kl_matters_to_the_gradients_that_are_compared(small_workload):
    """Against another reference the gradient differs by far more than what is tolerated."""
    updates = update.Updates.of(small_workload, 4)
    other = replace(updates, reference=small_workload.lm)
    for support in ("vocabulary", "catalogue"):
        ours = update.gradient(small_workload.model, lambda s=support: updates.ours(s))
        without = update.gradient(small_workload.model, lambda s=support: other.ours(s))
        with pytest.raises(AssertionError, match="gradients differ"):
            assert_same_gradient(ours, without)


def test_passes_of_any_size_give_the_released_gradient(small_workload):
    """One copy at a time, or all of them."""
    updates = update.Updates.of(small_workload, 4)
    one, all_ = (
        update.gradient(small_workload.model, lambda r=rows: updates.released(r))
        for rows in (1, 12)
    )
    assert assert_same_gradient(one, all_) <= 1e-5


def test_decision_beams_with_room_for_all_are_the_best_titles():
    """As many beams as titles give up nothing."""
    scores = UserScores(make_task(num_titles=30).trie, 1)
    best = np.argsort(-scores.titles(), axis=1)
    assert decision_beams(scores, 0, 30) == best[0].tolist()


def test_the_released_mask_knows_the_same_tokens_as_the_trie():
    """And as the dictionaries of Hugging Face's constraint; -1e6 elsewhere."""
    task = make_task(num_titles=60)
    tokens = task.title_tokens
    table, allowed = prefix_table(tokens), nested_dicts(tokens, 2)
    for title in (0, 17, 59):
        ids = tokens.to_model_ids(tokens[title])
        mask = ReleasedMask(table, num_beams=1)
        node = np.zeros(1, np.int64)
        for place, token in enumerate(tokens[title]):
            sequence = torch.tensor([[5, 6, *ids[:place]]])
            legal = tokens.to_model_ids(task.trie.children(node).tokens).tolist()
            scores = mask(sequence, torch.zeros(1, task.tokenizer.vocab_size))
            assert torch.nonzero(scores[0] > -1e5)[:, 0].tolist() == sorted(legal)
            assert sorted(allowed(0, sequence[0])) == sorted(legal)
            node = task.trie.step(node, np.array([token]))


def test_titles_are_read_from_what_generate_wrote(small_workload):
    """A title ends at its EOS, whatever follows; what is no title is -1."""
    tokens = small_workload.task.title_tokens
    [[ids]] = small_workload.completions(np.array([[8]]))
    written = torch.zeros(1, 3, len(ids) + 2, dtype=torch.int64)
    written[0, 0, : len(ids)] = torch.tensor(ids)
    written[0, 1, : len(ids) - 1] = torch.tensor(ids[:-1])
    written[0, 1, len(ids) - 1 :] = int(tokens.local_model[-1])
    assert small_workload.titles_of(written).tolist() == [[8, -1, -1]]


def test_half_b_spreads_the_same_titles_over_a_larger_vocabulary():
    """The trie has the same form; ids are those of a tokenizer of 151,936."""
    small, spread = make_task(num_titles=80), make_task(num_titles=80, shape="half_b")
    np.testing.assert_array_equal(
        np.sort(np.diff(small.title_tokens.indptr)), np.sort(np.diff(spread.title_tokens.indptr))
    )
    assert small.trie.num_nodes == spread.trie.num_nodes
    assert spread.title_tokens.local_model.max() > 100_000
    assert spread.title_tokens.num_lossy == 0


def test_equal_titles_may_swap_only_where_scores_are_equal():
    """Two titles 1e-6 apart may; two that are 0.1 apart may not; repeats never."""
    scores = np.array([[-1.0, -1.000001, -1.1]])
    assert_same_titles(np.array([[0, 1, 2]]), np.array([[1, 0, 2]]), scores)
    with pytest.raises(AssertionError, match=r"users \[0\] differ"):
        assert_same_titles(np.array([[0, 1, 2]]), np.array([[0, 2, 1]]), scores)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_titles(np.array([[0, 0]]), np.array([[0, 0]]), scores)
    assert recall(np.array([[0, 2]]), scores) == 0.5


def test_search_reports_every_ratio(small_workload):
    """After equal titles for every user, an exact search that is exact, and sums of one."""
    measured = search.measure_search(small_workload, TINY)
    assert set(measured.ratios) == set(measured.wall_ratios)
    assert set(measured.ratios) == {
        "beam16_vocabulary",
        "beam16_catalogue",
        "prefill_limit",
        "beam50_exact",
        "catalogue_vs_beam50",
    }
    assert measured.facts["users_with_identical_titles"] == 3
    assert measured.facts["recall_exact_wide"] == 1.0
    assert len(measured.seconds["released"]["cpu_s"]) == 2
    assert len(measured.seconds["constrained"]["cpu_s"]) == 1


def test_search_refuses_to_report_what_differs(small_workload, monkeypatch):
    """A search that finds other titles is no search of ours."""

    def reversed_search(*args, **options):
        found = beam_search(*args, **options)
        return replace(found, titles=found.titles[:, ::-1].copy())

    monkeypatch.setattr(search, "radix_search", reversed_search)
    with pytest.raises(AssertionError, match="nothing is reported"):
        search.measure_search(small_workload, TINY)


def test_update_reports_every_ratio(small_workload):
    """After equal gradients; memory is a share, not a factor."""
    measured = update.measure_update(small_workload, TINY)
    memory = {"update_memory", "update_memory_vocabulary"}
    assert set(measured.ratios) == {"update_vocabulary", "update_catalogue"} | memory
    assert set(measured.wall_ratios) == set(measured.ratios) - memory
    assert max(measured.facts[f"gradient_error_{s}"] for s in ("vocabulary", "catalogue")) <= 1e-5
    assert 0 < measured.ratios["update_memory"]["median"] < 1


def test_update_refuses_to_report_what_differs(small_workload, monkeypatch):
    """Another weight of the KL is another gradient."""
    monkeypatch.setattr(update, "BETA", 0.05)
    with pytest.raises(AssertionError, match="gradients differ"):
        update.measure_update(small_workload, TINY)


def test_step_reports_its_ratio(small_workload):
    """After the rollout and the clipped gradient of the agent's own step were found right."""
    measured = step.measure_step(small_workload, TINY)
    assert set(measured.ratios) == {"step_catalogue"}
    assert measured.facts["gradient_error_step"] <= 1e-5


@pytest.mark.slow
def test_growth_measures_every_axis():
    """One row a value, an exponent a side; released code only as far as is bearable."""
    base = replace(search_growth.__globals__["Point"](), num_titles=60, num_users=2)
    grown = search_growth({"group_size": (2, 3), "num_titles": (40, 60)}, base)
    assert grown["group_size"]["values"] == [2, 3]
    assert "score_catalogue" not in grown["group_size"]["per_user_s"]
    assert all(cost > 0 for cost in grown["num_titles"]["per_user_s"]["radix"])
    assert isinstance(grown["num_titles"]["exponent"]["radix"], float)
    grown = update_growth({"num_users": (1, 2)}, base)
    assert set(grown["num_users"]["per_user_s"]) == {"vocabulary", "catalogue", "released"}


@pytest.mark.parametrize("what", [pytest.param("search", marks=pytest.mark.slow), "update", "step"])
def test_the_command_prints_strict_json_and_writes_a_report(what, tmp_path, capsys):
    """Ratios, settings, machine, versions and command; a JSON, a table and a picture."""
    assert main(["bench", what, "--quick", "--json", "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"ratios", "seconds", "settings", "machine", "versions", "command"} <= set(result)
    assert result["settings"]["small"]["workload"]["titles"] == 150
    for ratio in result["ratios"].values():
        assert ratio["low"] <= ratio["median"] <= ratio["high"]
    assert json.loads((tmp_path / f"{what}.json").read_text(encoding="utf-8")) == result
    table = (tmp_path / f"{what}.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in table for name in result["ratios"])
    assert (tmp_path / f"{what}.svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.slow
def test_the_full_run_adds_half_b_and_growth(monkeypatch):
    """Names of the larger shape end with its name; where memory is short it says so."""
    tiny = replace(TINY, rounds=1)
    monkeypatch.setattr(engine, "FULL", tiny)
    monkeypatch.setattr(engine, "HALF_B", replace(tiny, shape="half_b"))
    monkeypatch.setattr(engine, "GROWTH", {"update": lambda: {"axis": {}}})
    monkeypatch.setattr(engine, "_free_gib", lambda: 100.0)
    result = engine.bench_engine("update", rounds=1)
    assert {"update_catalogue", "update_catalogue_half_b"} <= set(result["ratios"])
    assert result["growth"] == {"axis": {}}
    monkeypatch.setattr(engine, "_free_gib", lambda: 1.0)
    result = engine.bench_engine("update", rounds=1, growth=False)
    assert "update_catalogue_half_b" not in result["ratios"]
    assert result["left_out"] == {"half_b": "needs 20 GiB of free memory; 1 are free"}


def test_a_folder_with_an_items_file_is_catalogue_enough(tmp_path):
    """Titles in a tokenizer of their own, with the paper's quotes and line break."""
    rows = [f"i{n},green toy {n} of the red fox" for n in range(30)]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title", *rows]), encoding="utf-8")
    task = make_task(tmp_path)
    assert task.trie.num_titles == 30
    assert task.tokenizer.vocab_size <= workload.VOCAB_SIZE
