"""What `rere recommend` prints."""

from types import SimpleNamespace

from agents.commands.recommend import Recommend
from agents.reporting.tables import ResultTable, _as_text
from rere_env import Catalogue

TITLES = ["red\x1b]0;owned\x07 fox", "blue\u202e owl"]


def test_titles_cannot_command_the_terminal(capsys):
    """Escapes and turned writing become spaces; JSON escapes them."""
    catalogue = Catalogue.from_items(["a", "b"], TITLES)
    task = SimpleNamespace(catalogue=catalogue, decode_title=lambda title: TITLES[title])
    rows = [{"title": TITLES[1], "probability": 0.5}]
    for json in (False, True):
        Recommend(run_or_model="run", history="a", json=json)._print(task, [0], rows)
        printed = capsys.readouterr().out
        assert all(char.isprintable() or char == "\n" for char in printed)
    table = ResultTable(title="t", columns=(), rows=((TITLES[0], ()),))
    assert "red ]0;owned  fox" in _as_text(table)
