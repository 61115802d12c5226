"""The list of benchmarks: what is run, what kind of figures it gives, and what of them its page shows.

A step's commands print JSON on their last line, of which its tables show a part. `has_page` False: the command writes
its page itself.
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
_WAITS = "an engine that waits"
_EIGHT = " ".join(f"demo/clips/cam0{number}.mp4" for number in range(1, 9))


@dataclass(frozen=True, slots=True)
class Table:
    """Of the commands named by `of`, or of all: they are the columns and the places of `show` the rows.

    With `rows`, which is the place of a list or of an object of objects in what one command prints, each of these is a
    row.
    """

    show: tuple[str, ...] = ()
    rows: str | None = None
    of: tuple[str, ...] = ()
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One page. `needs` are paths, from the repository's root, or importable modules, without which it is left out."""

    name: str
    title: str
    kinds: tuple[Kind, ...]
    precision: str
    commands: Mapping[str, tuple[str, ...]]
    tables: tuple[Table, ...] = ()
    needs: tuple[str, ...] = ()
    has_page: bool = True

    @property
    def file(self) -> str | None:
        """The page's file name, or None where the command writes it."""
        return f"{self.name}.md" if self.has_page else None


def _run(command: str) -> tuple[str, ...]:
    """`loadtest fidelity` as arguments of Python."""
    return "-m", *shlex.split(command)


def _one(command: str) -> dict[str, tuple[str, ...]]:
    return {"": _run(command)}


def _values(places: str, of: tuple[str, ...] = (), heading: str = "") -> tuple[Table, ...]:
    return (Table(tuple(places.split()), of=of, heading=heading),)


def _listed(*places: str) -> tuple[Table, ...]:
    """A table for each place; below a heading of its own where there are several."""
    headings = [place.replace("_", " ").capitalize() if len(places) > 1 else "" for place in places]
    return tuple(Table(rows=place, heading=heading) for place, heading in zip(places, headings, strict=True))


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
            _values(
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
            _values(
                "streaming_ap ap gpu_ms_per_camera_s inferences_per_camera_s mean_batch age_ms.p50 age_ms.p95 jain"
                " skip_share miss_rate"
            ),
        ),
    )


def _emulated() -> tuple[Step, ...]:
    """Real clients, a real Triton, an engine that waits."""
    return (
        Step(
            "fidelity",
            "How true the simulator is",
            ("emulated",),
            _WAITS,
            _one("loadtest fidelity --cameras 8 --time-scale 100 --seconds 60"),
            _values(
                "live.inferences_per_s simulated.inferences_per_s inferences_ratio live.mean_batch simulated.mean_batch"
                " live.age_ms simulated.age_ms live.errors"
            ),
        ),
        Step(
            "fifty",
            "Fifty cameras against an emulated T4",
            ("emulated", "measured"),
            f"{_WAITS}; the client's CPU is measured",
            {"gate off": _run("loadtest fifty --seconds 45"), "gate on": _run("loadtest fifty --seconds 30 --gate")},
            _values(
                "frames_seen_per_s inferences_per_s fair_share_min result_age_ms mean_batch cross_talk errors"
                " client_cpu_ms_per_inference client_cpu_ms_by_part client_cpu_ms_per_gated_frame"
            ),
        ),
        Step(
            "client",
            "What the client itself costs",
            ("measured",),
            _WAITS,
            _one("loadtest client"),
            _listed("cameras"),
        ),
        Step(
            "pool",
            "Several servers behind one fleet",
            ("emulated",),
            _WAITS,
            _one("loadtest pool --seconds 10"),
            (
                Table(rows="servers", heading="Saturated: one, two, four Tritons"),
                *_values(
                    "one_of_two_killed.cameras one_of_two_killed.demand_fps one_of_two_killed.longest_silence_before_s"
                    " one_of_two_killed.longest_silence_after_s one_of_two_killed.settled_after_s"
                    " one_of_two_killed.errors",
                    heading="One of two killed under load",
                ),
            ),
        ),
        Step(
            "cluster",
            "Fleets on a Ray cluster, and nodes that die",
            ("emulated",),
            _WAITS,
            _one("loadtest cluster"),
            _values(
                " ".join(
                    f"deaths.{death}.longest_silence_s deaths.{death}.others_longest_silence_s"
                    for death in ("process_killed", "process_stopped", "node_removed")
                )
                + " taken_back.process_killed.longest_silence_s taken_back.process_stopped.longest_silence_s errors"
            ),
            needs=("ray",),
        ),
        Step(
            "reliability",
            "Faults, hostile requests, and a long time under load",
            ("emulated", "measured"),
            f"{_WAITS}; hostile requests: the demo's yolo12n in the processor's own precision",
            {
                "faults": _run("loadtest reliability"),
                "hostile": _run("loadtest fuzz"),
                "soak": _run("loadtest soak --seconds 1800"),
            },
            (
                Table(rows="faults", of=("faults",), heading="Faults"),
                *_values("sigterm_s cross_talk lost_before_sigterm frames_unaccounted", of=("faults",)),
                *_values(
                    "inputs seconds outcomes kinds untyped server_alive memory_kept_mb",
                    of=("hostile",),
                    heading="Hostile requests",
                ),
                *_values(
                    "seconds cameras cameras_lost inferences inferences_per_s result_age_ms"
                    " connections_of_the_bad_camera fleet triton",
                    of=("soak",),
                    heading="Soak",
                ),
            ),
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
            _listed("clips"),
            needs=_RECORDED,
        ),
        Step(
            "demo",
            "The demo: eight cameras on this processor",
            ("measured",),
            told,
            _one("demo run --cameras 8 --seconds 30"),
            _values(
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
            _listed("beside"),
            needs=_RECORDED[2:],
        ),
        Step(
            "wall",
            "The live wall",
            ("emulated", "measured"),
            f"{_WAITS}; `real`: the demo's weights on this processor",
            {
                "fifty tiles": _run(f"loadtest wall {_EIGHT} --seconds 300"),
                "cameras come and go": _run(f"loadtest wall {_EIGHT} --tiles 8 --seconds 0 --cycles 1000"),
                "come and go, real": _run(f"loadtest wall {_EIGHT} --tiles 4 --seconds 0 --cycles 100 --real"),
            },
            (
                *_values(
                    "tiles tiles_with_a_picture interactive_ms longest_task_ms long_tasks browser_heap_mb"
                    " client_cpu_percent_of_a_core viewer_costs_percent_of_a_core",
                    of=("fifty tiles",),
                    heading="Fifty tiles",
                ),
                *_values(
                    "cycles cameras threads descriptors metric_labels_left others_disturbed first_detection_s errors",
                    of=("cameras come and go", "come and go, real"),
                    heading="Cameras that come and go",
                ),
            ),
            needs=("playwright", _RECORDED[0]),
        ),
        Step(
            "events",
            "Events: from the answer to whoever wants them",
            ("measured",),
            told,
            _one("loadtest events --seconds 20"),
            _values(
                "cameras inferences events_at_broker events_at_receiver answer_to_broker_ms answer_to_receiver_ms"
                " dropped zones_us_per_result ring_us_per_packet errors"
            ),
            needs=(_RECORDED[0],),
        ),
        Step(
            "fusion",
            "Fused attention, proved without a card",
            ("measured",),
            "FP16, compiled for SM 7.5 by TensorRT-RTX",
            {
                "ours": _run("export verify --sm 75 yolo12n yolo12m yolo12x --random"),
                "stock": _run("export verify --sm 75 yolo12n yolo12m yolo12x --random --stock-attention"),
            },
            (
                Table(rows="models", of=("ours",), heading="Canonical attention, as we export it"),
                Table(rows="models", of=("stock",), heading="Stock attention, as Ultralytics writes it"),
            ),
            needs=("tensorrt_rtx",),
        ),
        Step(
            "accuracy",
            "What the demo's weights find, as they are served",
            ("measured",),
            told,
            _one("demo evaluate"),
            _values("served pytorch precision per_class per_size per_condition pictures cameras"),
            needs=("torch",),
        ),
        Step(
            "precisions",
            "FP32, FP16 and INT8 beside PyTorch",
            ("measured",),
            told,
            _one("export evaluate"),
            _listed("scores"),
            needs=("torch",),
        ),
        Step(
            "speed",
            "One picture at a time, beside Ultralytics",
            ("measured",),
            told,
            _one("export speed"),
            _listed("rows"),
            needs=("torch", "ultralytics"),
        ),
        Step(
            "suppression",
            "How many candidates",
            ("measured",),
            "f32",
            _one("export suppression"),
            _listed("results"),
            needs=("torch", "ultralytics"),
        ),
    )


def _own_pages() -> tuple[Step, ...]:
    """Commands that write their pages themselves."""
    return (
        Step("savings", "What is saved", ("measured", "projected"), "", _one("loadtest savings"), has_page=False),
        Step("tuning", "Each knob alone", ("modelled",), "", _one("loadtest tuning"), has_page=False),
        Step(
            "scaling",
            "From one camera to five hundred",
            ("projected", "modelled"),
            "",
            _one("loadtest scaling"),
            has_page=False,
        ),
        Step(
            "locust", "Locust against an emulated T4", ("emulated",), "", _one("loadtest sweep --again"), has_page=False
        ),
        Step(
            "opponents",
            "What a user would run instead",
            ("measured", "emulated"),
            "",
            _one("loadtest opponents"),
            needs=("torch", "ultralytics"),
            has_page=False,
        ),
    )


def _trackers() -> Step:
    return Step(
        "trackers",
        "Our tracker beside published ones",
        ("measured",),
        "f32",
        _one("demo tracking"),
        (
            *_listed("accuracy", "between"),
            *_values("ms_per_update", heading="Processor time of an update, ms"),
        ),
        needs=(".venv-bench/bin/python", ".venv-bench-older/bin/python"),
    )
