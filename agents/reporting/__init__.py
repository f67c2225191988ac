"""What a run leaves for people and programs: result.json, a printed table, report.html.

    result = build_result(evaluations, dataset=..., seed=..., config=..., seconds=...)
    write_result(run_dir / "result.json", result)
    print(result_table(result))
    write_report(run_dir, result, choose_samples(task, examples, evaluations))

Knows evaluations, not how they came about. Matplotlib and jinja2 are imported when a report is
written.
"""

from agents.reporting.html import write_report
from agents.reporting.results import build_result, write_result
from agents.reporting.samples import Sample, choose_samples
from agents.reporting.tables import evaluation_table, result_table

__all__ = [
    "Sample",
    "build_result",
    "choose_samples",
    "evaluation_table",
    "result_table",
    "write_report",
    "write_result",
]
