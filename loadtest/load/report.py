"""The test as one HTML file that needs nothing else: the verdict, the figures, plots over time."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from loadtest.load.verdict import Sample

_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #d0d7de;text-align:left}"
    ".good{color:#1a7f37}.bad{color:#cf222e}svg{max-width:100%;height:auto}"
)


def write_report(path: Path, report: dict[str, Any], samples: Sequence[Sample]) -> None:
    """Write the file. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html(report, samples), encoding="utf-8")


def html(report: dict[str, Any], samples: Sequence[Sample]) -> str:
    """The file's text. `report` is what `judged` gives."""
    passed = report["passed"]
    verdict = '<p class="good">The objective held.</p>' if passed else _listed(report["problems"])
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{_value(value)}</td></tr>" for key, value in report.items())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Load test</title>'
        f"<style>{_STYLE}</style><h1>Load test: {report['cameras']} cameras, {escape(report['kind'])}</h1>"
        f"{verdict}{plots(samples, report)}<table>{rows}</table></html>\n"
    )


def plots(samples: Sequence[Sample], report: dict[str, Any]) -> str:
    """SVG: cameras, frames, age, batch and utilisation over the seconds of the test."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    at = [one.at_s for one in samples]
    age_ms = [one.ages.quantile(0.95) for one in samples]
    objective = report["objective"]
    figure, axes = pyplot.subplots(5, 1, figsize=(10, 12), sharex=True, layout="constrained")
    try:
        axes[0].plot(at, [one.cameras for one in samples])
        axes[1].plot(at, [one.asked for one in samples], label="due")
        axes[1].plot(at, [one.good for one in samples], label="answered in time")
        axes[1].legend()
        axes[2].plot(at, _known(age_ms))
        axes[2].axhline(objective["age_p95_ms"], color="grey", linestyle="--")
        axes[3].plot(at, _known([one.mean_batch for one in samples]))
        axes[4].plot(at, _known([one.utilisation for one in samples]))
        for axis, label in zip(axes, ("cameras", "frames", "age p95, ms", "mean batch", "GPU used"), strict=True):
            axis.set_ylabel(label)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
        axes[4].set_xlabel("seconds")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    finally:
        pyplot.close(figure)
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]


def _known(values: Sequence[float | None]) -> list[float]:
    """Gaps in a line where nothing is known."""
    return [float("nan") if value is None else value for value in values]


def _listed(problems: Sequence[str]) -> str:
    return '<ul class="bad">' + "".join(f"<li>{escape(one)}</li>" for one in problems) + "</ul>"


def _value(value: Any) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value))
