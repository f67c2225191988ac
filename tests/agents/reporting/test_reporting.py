import json
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from agents.baselines import CoOccurrence, Popularity
from agents.evaluation import Evaluation, evaluate
from agents.reporting import (
    Sample,
    build_result,
    choose_samples,
    evaluation_table,
    result_table,
    write_report,
    write_result,
)
from agents.reporting.curves import learning_curves, read_metrics
from agents.reporting.provenance import git_commit, package_versions
from rere_env import Task
from rere_env.confidence import holm

EVIL = '<script>alert("x")</script> & co'
TITLES = ["ant farm", EVIL, "cat game", "dog show", "eel"]


@pytest.fixture(scope="module")
def task(dataset_of) -> Task:
    """Five titles, one of them hostile; each follows its neighbour."""
    rows = [((i,), (i + 1) % 5) for i in range(5)] + [((0, 1), 2), ((1, 2), 3)]
    return Task.build(dataset_of(TITLES, rows))


@pytest.fixture(scope="module")
def evaluations(task) -> dict[str, Evaluation]:
    """Popularity, co-occurrence, and the latter once more in the oracle's place."""
    train, test = task.split("train"), task.split("test")
    recommenders = {
        "popularity": Popularity(task, train),
        "co_occurrence": CoOccurrence(task, train),
        "oracle": CoOccurrence(task, train, backward=0.0),
    }
    return {
        name: evaluate(
            recommender,
            task,
            test,
            progress=False,
            num_resamples=50,
            probabilities=lambda batch: np.full((len(batch), 5), 0.2),
        )
        for name, recommender in recommenders.items()
    }


@pytest.fixture
def result(task, evaluations) -> dict:
    """A result of three recommenders."""
    return build_result(
        evaluations,
        dataset=task.dataset,
        seed=3,
        config={"data": Path("somewhere"), "inner": {"rate": 0.5}},
        seconds={"sft": 1.23456},
    )


def write_metrics(folder: Path, num_steps: int = 40) -> None:
    """A metrics.jsonl of two stages."""
    lines = []
    for stage in ("sft", "rl"):
        for step in range(num_steps + 1):
            line = {"stage": stage, "step": step, "seconds": 0.1}
            if step % 10 == 0:
                lines.append(line | {"valid/ndcg@10": 0.1, "valid/hit_rate@10": 0.2})
            if step:
                lines.append(line | {"loss/total": 1 / step, "rollout/hit_rate": 0.1})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")


class Page(HTMLParser):
    """Collects tags with attributes, and the text; complains about unbalanced tags."""

    VOID = ("meta", "img", "br", "link", "hr")

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Close it."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Note text."""
        self.text.append(data)


def test_result_json_is_strict_json(result, tmp_path):
    """It reads back as it was written, without NaN, and nothing is left beside it."""

    def refuse(name):
        raise AssertionError(name)

    write_result(tmp_path / "result.json", result)
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == result
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_number_that_is_not_finite_is_refused(result, tmp_path):
    """The old file stays where it was."""
    write_result(tmp_path / "result.json", {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(tmp_path / "result.json", result | {"seed": float("nan")})
    assert json.loads((tmp_path / "result.json").read_text("utf-8")) == {"old": 1}


def test_result_names_all_that_made_it(result, task):
    """Scores, versions, seed, hashes, commit, seconds, config."""
    assert list(result["recommenders"]) == ["popularity", "co_occurrence", "oracle"]
    ndcg = result["recommenders"]["popularity"]["ndcg@10"]
    assert ndcg["low"] <= ndcg["value"] <= ndcg["high"]
    assert result["seed"] == 3
    assert result["data"] == {"name": "tiny", "hash": "", "split": "test"}
    assert result["catalogue_hash"] == task.catalogue.content_hash()
    assert result["seconds"] == {"sft": 1.235}
    assert result["config"] == {"data": "somewhere", "inner": {"rate": 0.5}}
    assert result["versions"]["numpy"] == np.__version__


def test_each_recommender_is_compared_with_the_one_before_it(result):
    """Paired differences by default go up the table."""
    pairs = [(row["a"], row["b"]) for row in result["comparisons"] if row["metric"] == "ndcg@10"]
    assert pairs == [("co_occurrence", "popularity"), ("oracle", "co_occurrence")]
    scores = result["recommenders"]
    for row in result["comparisons"]:
        difference = scores[row["a"]][row["metric"]]["value"]
        difference -= scores[row["b"]][row["metric"]]["value"]
        assert row["value"] == pytest.approx(difference)
        assert row["low"] <= row["value"] <= row["high"]


def test_a_result_says_what_its_intervals_are(result):
    """Rows, users, method, unit, resamples, level."""
    for scores in result["recommenders"].values():
        assert (scores["num_examples"], scores["num_users"]) == (7, 7)
        assert (scores["interval"]["unit"], scores["interval"]["num_resamples"]) == ("user", 50)
    interval = result["comparison_statistics"]["interval"]
    assert (interval["unit"], interval["num_resamples"]) == ("user", 10_000)
    assert "Holm" in result["comparison_statistics"]["p_value_holm"]


def test_holm_corrects_for_all_comparisons(result):
    """Every row counts, of whatever metric."""
    rows = result["comparisons"]
    assert len(rows) == 6  # two pairs, three metrics
    expected = holm([row["p_value"] for row in rows])
    assert [row["p_value_holm"] for row in rows] == pytest.approx(expected)
    assert min(row["p_value"] for row in rows) * 6 == pytest.approx(expected.min())


def test_share_of_oracle_is_a_ratio(result):
    """It is there for all but the oracle, and only where there is an oracle."""
    scores = result["recommenders"]
    shares = result["share_of_oracle"]
    assert set(shares) == {"popularity", "co_occurrence"}
    expected = scores["popularity"]["ndcg@10"]["value"] / scores["oracle"]["ndcg@10"]["value"]
    assert shares["popularity"]["ndcg@10"] == pytest.approx(expected)


def test_without_an_oracle_there_is_no_share(task, evaluations):
    """Real data has no oracle; the table has no such column."""
    known = {name: done for name, done in evaluations.items() if name != "oracle"}
    result = build_result(known, dataset=task.dataset, seed=0, config={}, seconds={})
    assert result["share_of_oracle"] == {}
    assert "of oracle" not in result_table(result)


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    """Missing is None, not an error."""
    monkeypatch.setattr("agents.reporting.provenance.PACKAGES", ("numpy", "no-such-package-here"))
    versions = package_versions()
    assert versions["numpy"] == np.__version__
    assert versions["no-such-package-here"] is None


def test_the_commit_is_that_of_a_tracked_file_only(tmp_path):
    """A file outside a checkout, or merely inside somebody's, has no commit."""
    source = tmp_path / "source.py"
    source.write_text("", encoding="utf-8")
    assert git_commit(source) is None

    def git(*arguments: str) -> str:
        settings = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", *settings, *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    assert git_commit(source) is None
    git("add", "source.py")
    git("commit", "--quiet", "-m", "a")
    assert git_commit(source) == git("rev-parse", "HEAD")


def test_the_table_shows_every_recommender_and_rank(result):
    """Aligned text of at most 80 columns: hit_rate and ndcg at every k, coverage, share, faults."""
    text = result_table(result)
    for word in ("hit_rate", "ndcg", "@1", "@3", "@5", "@10", "@20", "@50"):
        assert word in text
    for word in ("coverage@10", "of oracle", "illegal", "duplicate", "expected_ndcg@10"):
        assert word in text
    lines = text.splitlines()
    assert sum(line.startswith("co_occurrence ") for line in lines) == 3
    assert max(map(len, lines)) <= 80
    for block in text.split("\n\n"):
        assert len({len(line) for line in block.splitlines()}) == 1


def test_the_table_of_one_evaluation(evaluations):
    """`rere evaluate` prints the same table for a single recommender."""
    text = evaluation_table({"runs/mine": evaluations["popularity"]})
    ndcg = evaluations["popularity"].metrics["ndcg@10"].value
    assert "runs/mine" in text
    assert f"{ndcg:.4f}" in text


def test_a_small_illegal_rate_is_not_rounded_away(evaluations):
    """One slot in a million is not 0 %."""
    text = evaluation_table({"a": replace(evaluations["popularity"], illegal_rate=1e-6)})
    assert "0.0001%" in text


def test_a_metric_that_was_not_measured_is_a_dash(task, evaluations):
    """Recommenders with other ks share a table."""
    short = evaluate(
        Popularity(task, task.split("train")), task, task.split("test"), ks=(1,), progress=False
    )
    text = evaluation_table({"short": short, "long": evaluations["popularity"]})
    row = next(line for line in text.splitlines() if line.startswith("short"))
    assert row.split()[2:] == ["-"] * 5


def test_samples_are_random_rows_in_words(task, evaluations):
    """History, target and lists as titles; all rows where there are fewer than asked for."""
    examples = task.split("test")
    samples = choose_samples(task, examples, evaluations)
    assert len(samples) == len(examples)
    assert samples[5].history == ["ant farm", EVIL]
    assert samples[5].target == "cat game"
    expected = [TITLES[title] for title in evaluations["popularity"].titles[5, :5]]
    assert samples[5].lists["popularity"] == expected
    few = choose_samples(task, examples, evaluations, num_samples=3, num_titles=2)
    assert len(few) == 3
    assert all(len(titles) == 2 for sample in few for titles in sample.lists.values())


def test_the_report_holds_everything_and_needs_nothing(result, task, evaluations, tmp_path):
    """All recommenders, pictures inside, no script, no address, balanced tags."""
    write_metrics(tmp_path)
    samples = choose_samples(task, task.split("test"), evaluations)
    path = write_report(tmp_path, result, samples)
    assert path == tmp_path / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    words = " ".join(page.text)
    for name in ("popularity", "co_occurrence", "oracle", "inner.rate", "cat game"):
        assert name in words
    tags = [tag for tag, _ in page.tags]
    assert tags.count("img") == 3  # validation and two stages
    assert tags.count("article") == 7
    assert not {"script", "link", "iframe", "object"} & set(tags)
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")


def test_the_report_says_what_was_resampled(result, tmp_path):
    """Rows, users, resamples, and the p-values of the differences."""
    row = result["comparisons"][0]
    row |= {"value": 0.1, "p_value": 0.0123, "p_value_holm": 0.0345}
    page = Page(write_report(tmp_path, result, []).read_text(encoding="utf-8"))
    words = " ".join(" ".join(page.text).split())
    assert "7 examples of 7 users" in words
    assert "percentile bootstrap of 50 resamples, which draw users" in words
    assert "Interval and p-value resample users (10,000 resamples)" in words
    assert "0.0123 0.0345 better" in words


@pytest.mark.parametrize(
    ("value", "p_value", "verdict"),
    [(0.1, 0.049, "better"), (-0.1, 0.049, "worse"), (0.1, 0.05, "not shown")],
)
def test_the_verdict_holds_for_the_table_as_a_whole(result, tmp_path, value, p_value, verdict):
    """The corrected p-value decides, not the interval."""
    result["comparisons"] = [result["comparisons"][0] | {"value": value, "p_value_holm": p_value}]
    html = write_report(tmp_path, result, []).read_text(encoding="utf-8")
    assert f"<td>{verdict}</td>" in html


def test_a_single_user_has_a_report_without_intervals(task, tmp_path):
    """Values only; nothing is claimed."""
    alone = task.split("test").take(slice(1))
    popularity = Popularity(task, task.split("train"))
    done = evaluate(popularity, task, alone, progress=False)
    result = build_result(
        {"a": done, "b": done}, dataset=task.dataset, seed=0, config={}, seconds={}
    )
    assert {row["p_value_holm"] for row in result["comparisons"]} == {None}
    write_result(tmp_path / "result.json", result)
    page = Page(write_report(tmp_path, result, []).read_text(encoding="utf-8"))
    words = " ".join(" ".join(page.text).split())
    assert "without intervals" in words
    assert "not shown" in words


def test_catalogue_text_is_escaped(result, tmp_path):
    """A title is text, whatever it looks like, in history, target and lists."""
    sample = Sample(history=[EVIL], target=EVIL, lists={"popularity": [EVIL, "cat game"]})
    html = write_report(tmp_path, result, [sample]).read_text(encoding="utf-8")
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert") == 3
    assert "".join(Page(html).text).count(EVIL) == 3


def test_hits_are_highlighted(result, tmp_path):
    """The target is marked where a list holds it, and nowhere else in the lists."""
    sample = Sample(history=["ant farm"], target="eel", lists={"popularity": ["eel", "dog show"]})
    page = Page(write_report(tmp_path, result, [sample]).read_text(encoding="utf-8"))
    assert [a.get("class") for tag, a in page.tags if tag == "li"] == [None, "hit", None]


def test_a_run_without_metrics_has_a_report(result, tmp_path):
    """Curves are left out, and the report says so."""
    html = write_report(tmp_path, result, []).read_text(encoding="utf-8")
    assert "logged no metrics" in html


def test_curves_show_what_was_logged(tmp_path):
    """One picture of validation, one a stage; the same records give the same bytes."""
    write_metrics(tmp_path)
    records = read_metrics(tmp_path / "metrics.jsonl")
    pictures = learning_curves(records)
    assert [p.title for p in pictures] == ["Validation", "Supervised fine-tuning", "ReRe"]
    assert "Loss" in pictures[1].alt
    assert "KL" not in pictures[2].alt
    assert [p.svg for p in learning_curves(records)] == [p.svg for p in pictures]
    assert learning_curves([]) == []


@pytest.mark.parametrize("line", ['{"step": 1', '{"step": 1}', "[1]"])
def test_a_broken_metrics_line_is_named(tmp_path, line):
    """The error names file and line."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "stage": "sft"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2"):
        read_metrics(path)
