"""What is counted, what is judged, and that nothing passes which was not seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.statistics import Histogram
from loadtest import __main__ as loadtest
from loadtest.fairness import jain
from loadtest.load.report import html, write_report
from loadtest.load.server_metrics import CardFigures, MetricsUnreachable, Reading, read_metrics
from loadtest.load.sweep import RUNS
from loadtest.load.tally import CROSS_TALK, Fate, Tally
from loadtest.load.verdict import Sample, Seen, held, judged, steady, windows
from loadtest.load.wanted import Objective, Plan, Wanted

PLAN = Plan(Wanted(), fps=20, scale=10, emulated=True, capacity_per_s=100)


def tally(good: int, late: int = 0, failed: int = 0, superseded: int = 0) -> Tally:
    """Two cameras; one has all that is no good."""
    counted = Tally()
    for number in range(good):
        counted.answered(f"cam{number % 2}", 20, 200)
    for _ in range(late):
        counted.answered("cam0", 500, 200)
    counted.count("cam0", Fate.FAILED, failed)
    counted.count("cam0", Fate.SUPERSEDED, superseded)
    return counted


def seen(counted: Tally, **changes: Any) -> Seen:
    """A run of ten seconds of two cameras, whose server formed batches of four."""
    return replace(Seen(PLAN, counted, 10, 2, before=Reading(8, 2), after=Reading(48, 12)), **changes)


def test_a_good_run_passes() -> None:
    """Rates are the card's: ten seconds of a card ten times slower are one."""
    report = judged(seen(tally(90, superseded=2)))
    assert report["passed"]
    assert (report["goodput"], report["goodput_per_s"], report["capacity_used"]) == (round(90 / 92, 4), 90, 0.9)
    assert (report["mean_batch"], report["cross_talk"]) == (4, 0)
    assert report["age_ms"]["p95"] == pytest.approx(20, rel=0.02)
    assert report["worst_share"] == round(45 / 47, 4)
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize(
    ("counted", "changes", "problem"),
    [
        (tally(90, late=10), {}, "goodput 0.9000 is below 0.95"),
        (tally(90, failed=10), {}, "goodput 0.9000 is below 0.95"),
        (tally(90, superseded=10), {}, "goodput 0.9000 is below 0.95"),
        (tally(0), {}, "no frame was answered"),
        (tally(90), {"problems": ["a metrics page is gone"]}, "a metrics page is gone"),
        (tally(90), {"after": Reading(3, 1)}, "the server's counts do not cover the test"),
        (tally(90), {"after": None}, "the server's counts do not cover the test"),
    ],
)
def test_what_failed_does_not_pass(counted: Tally, changes: dict[str, Any], problem: str) -> None:
    """Each reason by itself is enough."""
    report = judged(seen(counted, **changes))
    assert not report["passed"]
    assert any(one.startswith(problem) for one in report["problems"]), report["problems"]


def test_old_answers_and_wrong_answers_do_not_pass() -> None:
    """All in time by a deadline beyond the objective; all in time, one of them another camera's."""
    old = Tally()
    for _ in range(100):
        old.answered("cam0", 180, 200)
    (problem,) = judged(seen(old))["problems"]
    assert problem == "age p95 179.2 ms is above 150"
    wrong = tally(90)
    wrong.problems[CROSS_TALK] = 1
    assert judged(seen(wrong))["problems"] == ["1 answers were another camera's"]


def test_a_ramp_passes_when_it_held_at_first() -> None:
    """It ends where the objective breaks, which is what was asked for; at the first step it is not."""
    ramp = replace(PLAN, wanted=Wanted(shape="ramp"))
    assert judged(seen(tally(90, superseded=90), plan=ramp, held_cameras=60, broke_cameras=70))["passed"]
    report = judged(seen(tally(90, superseded=90), plan=ramp, broke_cameras=50))
    assert report["problems"] == ["the objective broke before the ramp began"]


def samples(good: list[int], asked: int = 10) -> list[Sample]:
    """A sample every ten seconds."""
    found = []
    for number, count in enumerate(good):
        ages = Histogram()
        for _ in range(count):
            ages.add(20)
        found.append(Sample(number * 10.0, 2, count, asked, ages, 4.0, 0.5))
    return found


def test_a_soak_is_judged_by_the_minute() -> None:
    """A bad minute among good ones, which the whole would hide, fails it."""
    soak = replace(PLAN, wanted=Wanted(shape="soak"))
    minutes = samples([10] * 6 + [5] * 6 + [10] * 7)
    assert [len(minute) for minute in windows(minutes, 60)] == [6, 6, 6]
    report = judged(seen(tally(990, superseded=10), plan=soak, samples=minutes))
    assert report["problems"] == ["the objective did not hold in 1 of 3 minutes"]
    assert held(Objective(), [])
    assert not held(Objective(), samples([0]))


def test_the_steady_part_of_a_test() -> None:
    """Neither its first tenth, when frames have not come due, nor its last, when what is in flight is lost, counts."""
    whole = samples([0, 0, *[10] * 16, 0, 0])
    assert steady(whole, 10) == 10
    assert steady(whole[:5], 10) is None
    assert steady([], 10) is None
    growing = [replace(one, cameras=1) for one in whole[:6]] + whole[6:]
    assert steady(growing, 1) == 1
    assert judged(seen(tally(90), samples=whole))["capacity_used"] == 0.1


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20))
def test_jain(shares: list[int]) -> None:
    """1 when all have the same, 1/n when one has all, never outside; nothing to say when nobody has anything."""
    index = jain(shares)
    assert (index is None) == (not any(shares))
    if index is not None:
        assert 1 / len(shares) - 1e-9 <= index <= 1 + 1e-9
        assert jain([shares[0] + 1] * len(shares)) == pytest.approx(1)
        assert jain([1, *[0] * (len(shares) - 1)]) == pytest.approx(1 / len(shares))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.1, 1e4)), max_size=50), st.integers(0, 50))
def test_counts_survive_the_way_to_the_master(answers: list[tuple[str, float]], cut: int) -> None:
    """Two workers' messages merge into what one process would have counted."""
    one, two, both = Tally(), Tally(), Tally()
    for number, (camera, age_ms) in enumerate(answers):
        for counted in (both, one if number < cut else two):
            counted.answered(camera, age_ms, 200)
            counted.problems["RequestTimeout"] += 1
    merged = Tally()
    for worker in (one, two):
        merged.merge(Tally.of_message(json.loads(json.dumps(worker.as_message()))))
    assert merged.as_message() | {"sum_ms": 0} == both.as_message() | {"sum_ms": 0}
    assert merged.ages.sum_ms == pytest.approx(both.ages.sum_ms)


def test_rubbish_of_a_worker_is_refused() -> None:
    """Another version's message, and a bin that there is not."""
    with pytest.raises(KeyError):
        Tally.of_message({"frames": {}})
    with pytest.raises(ValueError, match="a histogram has bins 0"):
        Histogram.of_counts([[10**6, 1]], 0.0)


def test_the_report_is_one_file(tmp_path: Path) -> None:
    """Its plots are in it, what a server says is not taken for HTML, and a run of no length has one too."""
    report = judged(seen(tally(90), problems=["<script>"]))
    path = tmp_path / "deep" / "report.html"
    write_report(path, report, samples([10] * 5))
    text = path.read_text(encoding="utf-8")
    assert text.count("<svg") == 1
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "<svg" in html(judged(seen(tally(0))), [])


# --- metrics pages

PAGE = """# TYPE nv_inference_count counter
nv_inference_count{model="yolo12n_engine",version="1"} 30
nv_inference_count{model="yolo12m_engine",version="1"} 10
nv_inference_count{model="yolo12n",version="1"} 1000
# TYPE nv_inference_exec_count counter
nv_inference_exec_count{model="yolo12n_engine",version="1"} 5
nv_inference_exec_count{model="yolo12m_engine",version="1"} 5
"""
CARD = '# TYPE nv_gpu_utilization gauge\nnv_gpu_utilization{gpu_uuid="a"} 0.5\n'


@pytest.fixture
def pages() -> Iterator[str]:
    """A server of the pages above, and of one that is not a metrics page."""
    texts = {"/triton": PAGE, "/card": CARD, "/other": "nv_gpu_ <html>", "/empty": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = texts[self.path].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_metrics_are_summed_over_engines(pages: str) -> None:
    """An ensemble's own count is not an inference more; the card may be on another page, or on none."""
    assert read_metrics([f"{pages}/triton", f"{pages}/card"]) == Reading(40, 10, utilisation=0.5)
    assert read_metrics([f"{pages}/triton"]) == Reading(40, 10)
    assert CardFigures([Reading(0, 0, 0.5), Reading(0, 0, 0.25)]).summary()["utilisation"] == 0.375


def test_metrics_that_cannot_be_read_are_one_line(pages: str) -> None:
    """Nobody there, another page, a page without engines."""
    for url in ("http://127.0.0.1:1/metrics", f"{pages}/other", "nonsense"):
        with pytest.raises(MetricsUnreachable, match="the metrics cannot be read: ") as caught:
            read_metrics([url])
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(MetricsUnreachable, match="is this Triton's metrics page"):
        read_metrics([f"{pages}/empty"])


# --- the sweep


def test_a_sweep_goes_on_and_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was kept is not run again; the page shows it with its command; an unknown run is one line."""
    report = judged(seen(tally(90), samples=samples([10] * 10))) | {"load": 0.8, "exit_code": 0}
    kept = tmp_path / "kept"
    kept.mkdir()
    by_name = {run.name: run for run in RUNS}
    for name, file, length_s in (("80 %", "80-percent", 40), ("saturated", "saturated", 30)):  # the second is stale
        kept_report = report | {"arguments": by_name[name].arguments(length_s)}
        (kept / f"{file}.json").write_text(json.dumps(kept_report))
    places = ["--kept", str(kept), "--out", str(tmp_path)]
    assert loadtest.main(["sweep", "--only", "80 %", *places]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"]["80 %"]["capacity_used"] == 0.1
    text = (tmp_path / "locust.md").read_text(encoding="utf-8")
    assert "| 80 % | 2 | 10 | 0.8 | 0 | 1 | 0.1 |" in text
    assert (
        "locust -f loadtest/locustfile.py --headless -r 200 -t 40s --report= -u 50 --load 0.8 --time-scale 10" in text
    )
    assert "saturated" not in text.partition("```sh")[2]
    slow = replace(by_name["80 %"], time_scale=100).arguments(40)
    (kept / "80-percent.json").write_text(json.dumps(report | {"arguments": slow}))
    assert loadtest.main(["sweep", "--only", "80 %", "--time-scale", "100", *places]) == 0
    capsys.readouterr()
    assert "-u 50 --load 0.8 --time-scale 100" in (tmp_path / "locust.md").read_text(encoding="utf-8")
    assert loadtest.main(["sweep", "--only", "half", *places]) == 1
    assert "there is no run 'half'; there are as planned, " in capsys.readouterr().err
