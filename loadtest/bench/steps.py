"""The list of benchmarks: what is run, what kind of figures it gives, and what of them its page shows.

A step's commands print JSON on their last line. `rows` is the place in it of a mapping or a list that becomes a table;
without it the commands are the columns and `show` the rows. `page` None: the command writes its page itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clients.data_sheet import Kind

_PLAN = ("-m", "loadtest", "plan", "--source", "1280x720@25/h264", "--rate", "5", "--cores", "16", "--network", "10G")
_PRICE = ("--price-per-hour", "1")
_MIX = ("--tiers", "n:0.8,m:0.15,x:0.05")
_RECORDED = ("demo/clips/cam05.mp4", "demo/clips/cam06.mp4", "demo/clips/cam03.mp4")


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


def steps() -> tuple[Step, ...]:
    """In the order in which they are run: the quick ones first."""
    return (
        Step(
            "planner",
            "How many cameras a card takes",
            ("projected",),
            "FP16 of a modelled T4",
            {
                f"{count} cameras, {gpu} {variant}": (
                    *_PLAN,
                    *_MIX,
                    *_PRICE,
                    "--gpu",
                    gpu,
                    "--variant",
                    variant,
                    "--cameras",
                    str(count),
                    *cards,
                )
                for gpu, variant, count, cards in (
                    ("t4", "central", 10, ()),
                    ("t4", "central", 50, ()),
                    ("t4", "central", 100, ("--cards", "2")),
                    ("t4", "central", 200, ("--cards", "4")),
                    ("t4", "pessimistic", 50, ()),
                    ("t4", "optimistic", 50, ()),
                    ("l4", "central", 50, ()),
                )
            },
            show=(
                "fits",
                "breaks_first",
                "limits.nvdec.share",
                "limits.vram.share",
                "limits.pcie.share",
                "limits.gpu.share",
                "limits.cpu.share",
                "limits.network.share",
                "cards",
                "cost_per_camera_hour",
            ),
        ),
        Step(
            "decode",
            "Decoding, with every picture and without those that no other one needs",
            ("measured",),
            "no inference",
            {"": ("-m", "loadtest", "decode", *_RECORDED)},
            rows="clips",
            needs=_RECORDED,
        ),
        Step(
            "simulate",
            "Fifty cameras in virtual time",
            ("modelled",),
            "detections of the demo's yolo12n, FP16 of a modelled T4",
            {
                f"{policy}, {variant}": ("-m", "loadtest", "simulate", "--policy", policy, "--variant", variant)
                for policy, variant in (("fixed", "central"), ("budget", "central"), ("fixed", "pessimistic"))
            },
            show=(
                "streaming_ap",
                "ap",
                "gpu_ms_per_camera_s",
                "inferences_per_camera_s",
                "mean_batch",
                "age_ms.p50",
                "age_ms.p95",
                "jain",
                "skip_share",
                "miss_rate",
            ),
        ),
        Step(
            "fidelity",
            "How true the simulator is",
            ("emulated",),
            "an engine that waits",
            {"": ("-m", "loadtest", "fidelity")},
            show=(
                "live.inferences_per_s",
                "simulated.inferences_per_s",
                "inferences_ratio",
                "live.mean_batch",
                "simulated.mean_batch",
                "live.age_ms.p50",
                "simulated.age_ms.p50",
                "live.age_ms.p95",
                "simulated.age_ms.p95",
                "live.errors",
            ),
        ),
        Step(
            "demo",
            "The demo: eight cameras on this processor",
            ("measured",),
            "as the table says",
            {"": ("-m", "demo", "run", "--cameras", "8", "--seconds", "30")},
            show=(
                "precision",
                "frames_decoded",
                "inferences",
                "inferences_per_s",
                "mean_batch",
                "result_age_ms.p50",
                "result_age_ms.p95",
                "result_age_ms.p99",
                "client_cpu_ms_per_inference",
                "errors",
            ),
        ),
        Step(
            "fifty",
            "Fifty cameras against an emulated T4",
            ("emulated", "measured"),
            "an engine that waits; the client's CPU is measured",
            {
                "gate off": ("-m", "loadtest", "fifty", "--seconds", "45"),
                "gate on": ("-m", "loadtest", "fifty", "--seconds", "30", "--gate"),
            },
            show=(
                "frames_seen_per_s",
                "inferences_per_s",
                "fair_share_min",
                "result_age_ms.p50",
                "result_age_ms.p95",
                "result_age_ms.p99",
                "mean_batch",
                "cross_talk",
                "errors",
                "client_cpu_ms_per_inference",
                "client_cpu_ms_by_part",
                "client_cpu_ms_per_gated_frame",
            ),
        ),
        Step(
            "neighbours",
            "One bad camera among good ones",
            ("measured",),
            "no inference",
            {"": ("-m", "loadtest", "neighbours", _RECORDED[2], "--cameras", "50", "--demand", "8")},
            rows="beside",
            needs=_RECORDED[2:],
        ),
        Step(
            "fusion",
            "Fused attention, proved without a card",
            ("measured",),
            "FP16, compiled for SM 7.5 by TensorRT-RTX",
            {"": ("-m", "export", "verify", "--sm", "75", "yolo12n", "yolo12m", "yolo12x", "--random")},
            rows="models",
            needs=("tensorrt_rtx",),
        ),
        Step(
            "accuracy",
            "What the demo's weights find, as they are served",
            ("measured",),
            "as the table says",
            {"": ("-m", "demo", "evaluate")},
            show=(
                "served.map50",
                "served.map50_95",
                "pytorch.map50",
                "pytorch.map50_95",
                "precision",
                "per_class",
                "per_size",
                "per_condition",
                "pictures",
                "cameras",
            ),
            needs=("torch",),
        ),
        Step(
            "precisions",
            "FP32, FP16 and INT8 beside PyTorch",
            ("measured",),
            "as the table says",
            {"": ("-m", "export", "evaluate")},
            rows="scores",
            needs=("torch",),
        ),
        Step(
            "speed",
            "One picture at a time, beside Ultralytics",
            ("measured",),
            "as the table says",
            {"": ("-m", "export", "speed")},
            rows="rows",
            needs=("torch", "ultralytics"),
        ),
        Step(
            "suppression",
            "How many candidates",
            ("measured",),
            "f32",
            {"": ("-m", "export", "suppression")},
            rows="rows",
            needs=("torch", "ultralytics"),
        ),
        Step(
            "savings",
            "What is saved",
            ("measured", "projected"),
            "",
            {"": ("-m", "loadtest", "savings")},
            needs=("torch",),
            page=None,
        ),
        Step(
            "opponents",
            "What a user would run instead",
            ("measured", "emulated"),
            "",
            {"": ("-m", "loadtest", "opponents")},
            needs=("torch", "ultralytics"),
            page=None,
        ),
        Step(
            "trackers",
            "Our tracker beside published ones",
            ("measured",),
            "f32",
            {"": ("-m", "demo", "tracking")},
            rows="accuracy",
            needs=(".venv-bench/bin/python", ".venv-bench-older/bin/python"),
        ),
    )
