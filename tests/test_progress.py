"""The progress that is shown between two reports."""

import contextvars
import threading

from historical_denoiser.core.progress import Pace, ticking


def test_an_estimate_rises_between_reports_and_never_falls_or_jumps():
    now, shown, left = [0.0], [], []
    pace = Pace(60.0, lambda: now[0])
    for second in range(1, 121):  # steps of 10 s, of which each takes 20 s
        now[0] = float(second)
        if second % 20 == 0:
            pace.add(4.0)
            pace.add(6.0)  # in the same burst
        shown.append(pace.estimate())
        left.append(pace.time_left())
    steps = [high - low for low, high in zip([0.0, *shown], shown, strict=False)]
    assert min(steps[:119]) > 0.0 and max(steps[20:]) < 1.5
    assert shown[-1] == 60.0 and pace.is_complete and left[-1] == ""
    assert left[0] == "" and left[40] == "about 80 seconds left" and left[20] == (
        "about 2 minutes left")
    for second in range(121, 200):  # slower than expected
        now[0] = float(second)
        assert pace.estimate() == 60.0


def test_ticks_have_the_context_of_their_caller_and_end():
    name, seen, ticked = contextvars.ContextVar("name"), [], threading.Event()
    name.set("run")

    def show() -> None:
        seen.append(name.get())
        ticked.set()

    threads = threading.active_count()
    with ticking(show):
        assert ticked.wait(10.0)
    assert set(seen) == {"run"} and threads == threading.active_count()
