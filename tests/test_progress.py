"""What is said of progress where there is no terminal: plain lines, with time left."""

from types import SimpleNamespace

import pytest

from domainemo.cli.screens import Pace, Progress
from domainemo.runs import execution
from domainemo.runs.execution import JobState, Monitor
from domainemo.runs.job import partial_folder


class Clock:
    """Seconds as a test sets them."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_time_left_is_as_the_work_of_this_run_went(clock):
    pace = Pace(clock)
    assert pace.left(4, 10) == ""  # an earlier run's
    clock.now = 60.0
    assert pace.left(4, 10) == ""
    # One in 60 seconds, so that the other five take 300.
    assert pace.left(5, 10) == "about 5 minutes left"
    clock.now = 61.0
    assert pace.left(9, 10) == "about 12 seconds left"  # 61 / 5
    assert pace.left(10, 10) == ""


def test_redirected_progress_is_lines_with_the_time_left(clock, capsys):
    jobs = [JobState("old", finished=True, resumed=True), JobState("a"), JobState("b")]
    monitor = Monitor(10, jobs)

    def said(now):
        clock.now = now
        progress.update(monitor)
        return capsys.readouterr().err.splitlines()

    with Progress(clock) as progress:
        assert said(0) == ["[1/3] old: kept"]
        jobs[1].epoch, jobs[1].loss = 2, 0.5
        assert said(59) == []
        # A tenth of the two jobs in a minute.
        line = "[1/3] a: epoch 2 of 10; loss 0.500; about 9 minutes left"
        assert said(60) == [line]
        assert said(61) == []
        jobs[1].epoch, jobs[1].finished = 10, True
        assert said(100) == ["[2/3] a: done; about 100 seconds left"]
        jobs[2].failed = True
        assert said(150) == ["[3/3] b: failed"]


@pytest.mark.parametrize("text", ["", '{"epo', '{"epoch": 3}', "[]"])
def test_progress_that_cannot_be_read_is_no_news(tmp_path, text):
    """A process killed as it wrote leaves any of these; it will write it again."""
    job = SimpleNamespace(folder=str(tmp_path / "job"))
    place = partial_folder(job)
    place.mkdir()
    (place / "progress.json").write_text(text)
    state = JobState("a job")
    execution._read_progress(job, state)
    assert state.epoch == 0
