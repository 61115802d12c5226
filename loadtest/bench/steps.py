"""The list of benchmarks: what is run, what kind of figures it gives, and what of them its page shows.

A step's commands print JSON on their last line. `rows` is the place in it of a mapping or a list that becomes a table;
without it the commands are the columns and `show` the rows. `page` None: the command writes its page itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from clients.data_sheet import Kind

_PLAN = "loadtest plan --source 1280x720@25/h264 --rate 5 --cores 16 --network 10G --tiers n:0.8,m:0.15,x:0.05"
_README_PLAN = (
    "loadtest plan --gpu t4 --cameras 50 --source 1920x1080@25/h264 --bitrate 4M --rate 5 --tiers n:0.8,m:0.15,x:0.05"
    " --price-per-hour 1"
)
_RECORDED = ("demo/clips/cam05.mp4", "demo/clips/cam06.mp4", "demo/clips/cam03.mp4")
_LOCUST = "locust -f loadtest/locustfile.py --headless -u 50 -r 25 -t 30s"


@dataclass(frozen=True, slots=True)
class Step:
    """One page. `needs` are paths, from the repository's root, or importable modules, without which it is left out."""

    name: str
    title: str
    kinds: tuple[Kind, ...]
    precision: str
    commands: Mapping[str, tuple[str, ...]]
    rows: str | None = None
    show: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    page: str | None = ""

    @property
    def file(self) -> str | None:
        """The page's file name, or None where the command writes it."""
        return None if self.page is None else self.page or f"{self.name}.md"


def _run(command: str) -> tuple[str, ...]:
    """`loadtest fidelity` as arguments of Python."""
    return "-m", *shlex.split(command)


def _one(command: str) -> dict[str, tuple[str, ...]]:
    return {"": _run(command)}


def _places(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def steps() -> tuple[Step, ...]:
    """In the order in which they are run: the quick ones first."""
    return (*_virtual(), *_emulated(), *_here(), *_own_pages(), _trackers())


def _virtual() -> tuple[Step, ...]:
    """Arithmetic and virtual time."""
    plans = (
        ("t4", "central", 10, 1),
        ("t4", "central", 50, 1),
        ("t4", "central", 100, 2),
        ("t4", "central", 200, 4),
        ("t4", "pessimistic", 50, 1),
        ("t4", "optimistic", 50, 1),
        ("l4", "central", 50, 1),
    )
    simulated = (("fixed", "central"), ("budget", "central"), ("fixed", "pessimistic"))
    return (
        Step(
            "planner",
            "How many cameras a card takes",
            ("projected",),
            "FP16 of a modelled card",
            {
                "50 cameras of 1080p, t4 central": _run(_README_PLAN),
            }
            | {
                f"{count} cameras, {gpu} {variant}": _run(
                    f"{_PLAN} --price-per-hour 1 --gpu {gpu} --variant {variant} --cameras {count} --cards {cards}"
                )
                for gpu, variant, count, cards in plans
            },
            show=_places(
                "fits breaks_first limits.nvdec.share limits.vram.share limits.pcie.share limits.gpu.share"
                " limits.cpu.share limits.network.share cards cost_per_camera_hour"
            ),
        ),
        Step(
            "simulate",
            "Fifty cameras in virtual time",
            ("modelled",),
            "detections of the demo's yolo12n, FP16 of a modelled T4",
            {
                f"{policy}, {variant}": _run(f"loadtest simulate --policy {policy} --variant {variant}")
                for policy, variant in simulated
            },
            show=_places(
                "streaming_ap ap gpu_ms_per_camera_s inferences_per_camera_s mean_batch age_ms.p50 age_ms.p95 jain"
                " skip_share miss_rate"
            ),
        ),
    )


def _emulated() -> tuple[Step, ...]:
    """Real clients, a real Triton, an engine that waits."""
    waits = "an engine that waits"
    return (
        Step(
            "fidelity",
            "How true the simulator is",
            ("emulated",),
            waits,
            _one("loadtest fidelity"),
            show=_places(
                "live.inferences_per_s simulated.inferences_per_s inferences_ratio live.mean_batch simulated.mean_batch"
                " live.age_ms simulated.age_ms live.errors"
            ),
        ),
        Step(
            "fifty",
            "Fifty cameras against an emulated T4",
            ("emulated", "measured"),
            f"{waits}; the client's CPU is measured",
            {"gate off": _run("loadtest fifty --seconds 45"), "gate on": _run("loadtest fifty --seconds 30 --gate")},
            show=_places(
                "frames_seen_per_s inferences_per_s fair_share_min result_age_ms mean_batch cross_talk errors"
                " client_cpu_ms_per_inference client_cpu_ms_by_part client_cpu_ms_per_gated_frame"
            ),
        ),
        Step(
            "load",
            "Locust against an emulated T4, at a part of what it can do",
            ("emulated",),
            f"{waits}; figures are the card's at full speed",
            {f"{part:.0%}": _run(f"{_LOCUST} --load {part:g} --report ''") for part in (0.6, 0.8)},
            show=_places("goodput goodput_per_s capacity_used age_ms jain worst_share mean_batch"),
            needs=("locust",),
        ),
        Step(
            "client",
            "What the client itself costs",
            ("measured",),
            waits,
            _one("loadtest client"),
            rows="cameras",
        ),
        Step(
            "faults",
            "Faults injected into a running fleet",
            ("emulated",),
            waits,
            _one("loadtest reliability"),
            rows="faults",
        ),
    )


def _here() -> tuple[Step, ...]:
    """This processor's own figures."""
    told = "as the table says"
    return (
        Step(
            "decode",
            "Decoding, with every picture and without those that no other one needs",
            ("measured",),
            "no inference",
            _one(f"loadtest decode {' '.join(_RECORDED)}"),
            rows="clips",
            needs=_RECORDED,
        ),
        Step(
            "demo",
            "The demo: eight cameras on this processor",
            ("measured",),
            told,
            _one("demo run --cameras 8 --seconds 30"),
            show=_places(
                "precision frames_decoded inferences inferences_per_s mean_batch result_age_ms"
                " client_cpu_ms_per_inference errors"
            ),
        ),
        Step(
            "neighbours",
            "One bad camera among good ones",
            ("measured",),
            "no inference",
            _one(f"loadtest neighbours {_RECORDED[2]} --cameras 50 --demand 8"),
            rows="beside",
            needs=_RECORDED[2:],
        ),
        Step(
            "fusion",
            "Fused attention, proved without a card",
            ("measured",),
            "FP16, compiled for SM 7.5 by TensorRT-RTX",
            _one("export verify --sm 75 yolo12n yolo12m yolo12x --random"),
            rows="models",
            needs=("tensorrt_rtx",),
        ),
        Step(
            "accuracy",
            "What the demo's weights find, as they are served",
            ("measured",),
            told,
            _one("demo evaluate"),
            show=_places("served pytorch precision per_class per_size per_condition pictures cameras"),
            needs=("torch",),
        ),
        Step(
            "precisions",
            "FP32, FP16 and INT8 beside PyTorch",
            ("measured",),
            told,
            _one("export evaluate"),
            rows="scores",
            needs=("torch",),
        ),
        Step(
            "speed",
            "One picture at a time, beside Ultralytics",
            ("measured",),
            told,
            _one("export speed"),
            rows="rows",
            needs=("torch", "ultralytics"),
        ),
        Step(
            "suppression",
            "How many candidates",
            ("measured",),
            "f32",
            _one("export suppression"),
            rows="results",
            needs=("torch", "ultralytics"),
        ),
    )


def _own_pages() -> tuple[Step, ...]:
    """Commands that write their pages themselves."""
    return (
        Step("savings", "What is saved", ("measured", "projected"), "", _one("loadtest savings"), page=None),
        Step("tuning", "Each knob alone", ("modelled",), "", _one("loadtest tuning"), page=None),
        Step("locust", "Locust against an emulated T4", ("emulated",), "", _one("loadtest sweep"), page=None),
        Step(
            "opponents",
            "What a user would run instead",
            ("measured", "emulated"),
            "",
            _one("loadtest opponents"),
            needs=("torch", "ultralytics"),
            page=None,
        ),
    )


def _trackers() -> Step:
    return Step(
        "trackers",
        "Our tracker beside published ones",
        ("measured",),
        "f32",
        _one("demo tracking"),
        rows="accuracy",
        needs=(".venv-bench/bin/python", ".venv-bench-older/bin/python"),
    )
