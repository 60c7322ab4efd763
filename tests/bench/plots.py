"""Draws docs/*.svg from docs/measurements.json: `.venv-mlflow/bin/python tests/bench/plots.py`.

It runs where MLflow is, which brings Matplotlib along. The same measurements give the same bytes.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

DOCS = Path(__file__).resolve().parents[2] / "docs"
OF_ONE_NAME = "versions of a name, page of 100"


def draw_growth(scaled: list[dict[str, Any]], path: Path) -> None:
    """What a request reads, and how long it takes beside the same calls by boto3, against the number of models."""
    series: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in scaled:
        if one["title"] != OF_ONE_NAME:
            series[one["title"]].append(one)
    figure, (read, ratio) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for number, (title, points) in enumerate(series.items()):
        sizes = [one["size"] for one in points]
        look = {"marker": "osD^v<>P"[number % 8], "label": title}
        read.plot(sizes, [one["read units"] for one in points], **look)
        ratio.plot(sizes, [one["ratio to boto3"] for one in points], **look)
    for axes, label in ((read, "read units of a request"), (ratio, "time of a request, to the same calls by boto3")):
        axes.set_xscale("log")
        axes.set_xlabel("models")
        axes.set_ylabel(label)
        axes.grid(visible=True, alpha=0.3)
    read.set_yscale("log")
    ratio.set_ylim(bottom=0)
    figure.legend(*read.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    mpl.rcParams["svg.hashsalt"] = "model-registry"
    mpl.rcParams["svg.fonttype"] = "none"
    draw_growth(json.loads((DOCS / "measurements.json").read_text())["scale"], DOCS / "growth.svg")
