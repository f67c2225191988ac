"""What a learner has to beat: recommenders that only count. They need no torch.

Each is a `Recommender` built from a task and training examples. They count items and rank titles:
a title is as good as its best item.
"""

from agents.baselines.co_occurrence import CoOccurrence
from agents.baselines.popularity import Popularity
from agents.baselines.ranking import Shown

__all__ = ["CoOccurrence", "Popularity", "Shown"]
