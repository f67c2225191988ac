"""What a learner has to beat: counts of items, and sequence models.

Each is a `Recommender` built from a task and training examples. Those named here only count items
and rank titles, a title as high as its best item; they need no torch. The sequence models do:
`agents.baselines.sasrec.SASRec` and `agents.baselines.gru4rec.GRU4Rec`.
"""

from agents.baselines.co_occurrence import CoOccurrence
from agents.baselines.popularity import Popularity
from agents.baselines.ranking import Filtered

__all__ = ["CoOccurrence", "Filtered", "Popularity"]
