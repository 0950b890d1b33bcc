"""Jobs on a Dask cluster: the same bits, whatever becomes of its workers."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from killing import outliving
from slurm import slurm

import domainemo as de
from domainemo.cli import main
from domainemo.errors import ConfigurationError, DomainemoWarning, RunError
from domainemo.machines import opening
from domainemo.machines.beside import pack_call
from domainemo.processes import check_executor

CHOICES = {
    "backbone": "concatenation-mlp",
    "adapter": "marginal",
    "baselines": False,
    "options": {"backbone.hidden": [4], "backbone.width": 4},
}
EPOCHS = 100  # a second or so
PAGE = Path(__file__).parents[1].joinpath("docs", "more-machines.md").read_text()
SHORT = de.Training(epochs=EPOCHS, batch_size=8)
COMMAND = [
    *("--set=data.sessions=1", "--set=data.trials=6"),
    *("--set=data.windows=[2,3]", "--backbone=concatenation-mlp", "--adapter=marginal"),
    *("--set=backbone.hidden=[4]", "--set=backbone.width=4", "--no-baselines"),
    *(f"--epochs={EPOCHS}", "--set=training.batch_size=8"),
]


@pytest.fixture(scope="module")
def data():
    return de.load("simulated", subjects=3, sessions=1, trials=6, windows=(2, 3))


@pytest.fixture(scope="module")
def local(data, tmp_path_factory):
    """What is predicted where everything runs in this process."""
    folder = tmp_path_factory.mktemp("local") / "run"
    de.run(data, training=SHORT, output=folder, **CHOICES)
    return predicted(folder)


@pytest.fixture(scope="module")
def two():
    with de.cluster("dask", jobs=2) as executor:
        yield executor


def predicted(folder):
    """Every array of every job of a run, by the bit; and that nothing else is left."""
    files = sorted(Path(folder).rglob("predictions.npz"))
    assert not [*Path(folder).rglob("*.partial"), *Path(folder).glob(".work-*")]
    return {
        (str(path.relative_to(folder)), name): array.tobytes()
        for path in files
        for name, array in np.load(path).items()
    }


def first_epochs(act):
    """Return what acts once, as soon as some job has trained for a while."""
    acted = []

    def on_progress(monitor):
        if not acted and any(0 < job.epoch < EPOCHS for job in monitor.jobs):
            acted.append(act())

    return on_progress


def wait_for(happened, seconds=60):
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.02)


def busy(executor):
    """Return the worker of a cluster that trains, and its process."""
    client = executor._client
    working = {address for address, keys in client.processing().items() if keys}
    pids = client.run(os.getpid)
    return min((address, pids[address]) for address in working & pids.keys())


def test_two_workers_end_with_the_same_bits(data, local, two, tmp_path):
    told = []
    de.run(
        data,
        training=SHORT,
        output=tmp_path / "run",
        executor=two,
        on_progress=lambda monitor: told.append([job.epoch for job in monitor.jobs]),
        **CHOICES,
    )
    assert predicted(tmp_path / "run") == local
    assert any(epoch > 0 for epochs in told for epoch in epochs)


def test_the_jobs_of_a_killed_worker_are_run_again(data, local, two, tmp_path):
    def kill():
        os.kill(busy(two)[1], signal.SIGKILL)

    watch = first_epochs(kill)
    with pytest.warns(DomainemoWarning, match=r"worker tcp://.* was lost.*once more"):
        de.run(
            data,
            training=SHORT,
            output=tmp_path / "run",
            executor=two,
            on_progress=watch,
            **CHOICES,
        )
    assert predicted(tmp_path / "run") == local


def die(path):
    """Note that this was called, and take the process down."""
    with open(path, "a") as file:
        file.write("called\n")
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_kills_its_worker_is_run_twice_and_no_more(two, tmp_path, monkeypatch):
    monkeypatch.setattr("domainemo.machines.executor.pack_call", packed_here)
    call = two.submit(die, str(tmp_path / "calls"))
    with pytest.raises(RunError, match="workers were lost, one after the other"):
        call.result(timeout=60)
    assert (tmp_path / "calls").read_text() == "called\n" * 2
    assert len(call.workers) == 2


def packed_here(function, *args):
    """Pack a call of a function that lives in this file, which others cannot import."""
    source = Path(__file__).read_text().partition("def die")[2].partition("\n\n\n")[0]
    code = f"import os, signal\ndef die{source}\ndie({args[0]!r})"
    return pack_call(exec, code, {})


def test_other_versions_are_refused(two, monkeypatch):
    ours = {"Python": "3.11", "domainemo": "0.0.1"}
    monkeypatch.setattr("domainemo.machines.beside._versions", lambda: ours)
    with pytest.raises(
        ConfigurationError, match=r"Python|has domainemo .* one 0\.0\.1"
    ):
        two.submit(abs, -1).result(timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_machines_that_share_no_disk_are_sent_the_recordings(
    data, local, tmp_path, monkeypatch
):
    """A folder that is another one for each process stands in for another disk."""
    from distributed import LocalCluster

    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    monkeypatch.chdir(tmp_path / "theirs")
    options = {"threads_per_worker": 2, "dashboard_address": ":0", "memory_limit": None}
    with LocalCluster(n_workers=1, **options) as cluster:
        monkeypatch.chdir(tmp_path / "ours")
        told = []
        with de.cluster(cluster.scheduler_address) as executor:
            assert executor._max_workers == 2
            de.run(
                data,
                training=SHORT,
                output="/proc/self/cwd/run",
                executor=executor,
                on_progress=lambda monitor: told.extend(j.epoch for j in monitor.jobs),
                **CHOICES,
            )
            kept = executor._client.run(
                lambda dask_worker: os.listdir(dask_worker.local_directory)
            )
        assert predicted(tmp_path / "ours" / "run") == local
        assert any(told), "progress is told from there, too"
        assert [*kept.values()] == [[]]
        with (
            pytest.raises(KeyboardInterrupt),
            de.cluster(cluster.scheduler_address) as executor,
        ):
            de.run(
                data,
                training=SHORT,
                output=tmp_path / "shared",
                executor=executor,
                on_progress=first_epochs(interrupt),
                **CHOICES,
            )
        # What is no longer wanted ends; the cluster itself stays.
        with cluster.get_client() as client:

            def children():
                return client.run(lambda: len(psutil.Process().children()))

            wait_for(lambda: not any(children().values()), 30)
            assert [*children().values()] == [0]
    assert not any((tmp_path / "theirs").iterdir())


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_ctrl_c_ends_all_and_the_same_command_resumes(local, tmp_path, monkeypatch):
    command = [
        *(sys.executable, "-c", "from domainemo.cli import main; main()"),
        *(*re.search(r"^    domainemo (adapt .*)$", PAGE, re.M)[1].split(), *COMMAND),
        "--output=run",
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: any(tmp_path.rglob("progress.json")) or process.poll())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 4, said
    assert "the same command resumes" in said and "Traceback" not in said, said
    assert not outliving(process.pid)
    finished = predicted_so_far(tmp_path / "run")
    assert len(finished) < len(local)
    # Resumed without the cluster, here, to the same bits.
    alone = [each for each in command[3:] if each not in ("--executor", "dask")]
    alone[alone.index("--jobs") + 1] = "1"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["domainemo", *alone])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert predicted(tmp_path / "run") == local
    assert finished.items() <= predicted_so_far(tmp_path / "run").items()


def predicted_so_far(folder):
    """When each file of finished jobs was written."""
    found = Path(folder).glob("folds/**/predictions.npz")
    return {p: p.stat().st_mtime_ns for p in found if ".partial" not in str(p)}


def test_the_page_s_script_and_file_are_right(local, tmp_path):
    script, file = (
        re.search(rf"^```{kind}\n(.*?)^```", PAGE, re.M | re.S)[1]
        for kind in ("python", "toml")
    )
    (tmp_path / "cluster.toml").write_text(file)
    opening.check_cluster(tmp_path / "cluster.toml", 4)
    assert all(f"`{key}`" in PAGE or f"\n{key} = " in PAGE for key in opening._KEYS)
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "logistic regression" in done.stdout, done.stderr
    (tmp_path / "bare.py").write_text(BARE)
    command[1] = "bare.py"
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "bare.py and run it again" in " ".join(done.stderr.split()), done.stderr


BARE = """
import domainemo as de

with de.cluster("dask", jobs=1):
    pass
"""
STUDY = {
    "backbone": "concatenation-mlp",
    "adapter": "marginal",
    "development": 2,
    "candidates": 3,
    "sampler": "random",
    "pruner": "none",
    "training": de.Training(epochs=25, batch_size=8),
    "options": CHOICES["options"],
    "final": False,
}


def test_a_study_finds_the_same_on_a_cluster(two, tmp_path):
    data = de.load("simulated", subjects=4, sessions=1, trials=6, windows=(2, 3))
    alone = de.tune(data, output=tmp_path / "alone", **STUDY)

    def kill():
        wait_for(lambda: any((tmp_path / "cluster").glob("candidates/**/*.partial")))
        os.kill(busy(two)[1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.warns(DomainemoWarning, match="was lost; its candidate is tried again"):
        found = de.tune(data, output=tmp_path / "cluster", executor=two, **STUDY)
    killer.join()
    assert scores(found) == scores(alone)
    assert found.choices[0].options == alone.choices[0].options


def scores(found):
    """What complete candidates scored, whatever their numbers."""
    table = found.candidates[found.candidates["state"] == "complete"]
    return sorted(table["value"])


# --------------------------------------------------------------------- what is refused


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Return a function that gives a command, and returns what it said."""
    monkeypatch.chdir(tmp_path)

    def give(*words, command="adapt"):
        monkeypatch.setattr(sys, "argv", ["domainemo", command, *COMMAND, *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert not (tmp_path / "runs").exists()
        return " ".join(capsys.readouterr().err.split())

    return give


def test_an_address_that_nobody_answers(refused, monkeypatch):
    monkeypatch.setattr(opening, "_SECONDS", 0.2)
    said = refused("--executor=tcp://127.0.0.1:1")
    assert "No Dask scheduler answers at tcp://127.0.0.1:1" in said
    assert "workers that it has" in refused("--executor=tcp://a:1", "--jobs=2")
    for address in ("nonsense://a:1", "tcp://localhost:abc", "tcp://"):
        said = refused(f"--executor={address}")
        assert f"'{address}' is no address of a Dask scheduler" in said


def test_a_scheduler_without_workers(refused):
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        said = refused(f"--executor={address}")
    assert f"has no workers. Start some with `dask worker {address}`" in said


def test_a_missing_extra_is_named(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'domainemo[cluster]'" in refused("--executor=dask")


SLURM = '[slurm]\ncores = 2\nmemory = "4GB"\n'


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        (None, [], "there is no such file. Expected 'dask', the address of"),
        ("[slurm", [], "cannot be read as TOML"),
        ("[pbs]\ncores = 1", [], "found pbs; expected one table [slurm]"),
        (SLURM + "core = 1", [], "slurm.core is not known. Did you mean 'cores'?"),
        (SLURM + "account = [1]", [], "slurm.account is [1]"),
        ("[slurm]\ncores = 0", [], "slurm.cores is 0"),
        ("[slurm]\ncores = 1", [], "slurm.memory is missing"),
        (SLURM, [], "how many SLURM jobs to submit: --jobs N"),
        (SLURM, ["--jobs=0"], "--jobs is '0'"),
    ],
)
def test_a_file_that_asks_for_something_else(text, words, said, refused, tmp_path):
    if text is not None:
        (tmp_path / "cluster.toml").write_text(text)
    assert said in refused("--executor=cluster.toml", *words)


def test_slurm_is_asked_where_it_takes_jobs(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    (tmp_path / "cluster.toml").write_text(SLURM)
    said = refused("--executor=cluster.toml", "--jobs=1")
    assert "there is no sbatch on this machine" in said


def test_executors_that_would_train_in_threads(two):
    with pytest.raises(ConfigurationError, match=r"give that of `domainemo\.cluster"):
        check_executor(two._client.get_executor())


def test_a_study_on_many_machines_is_not_kept_in_sqlite(two, tmp_path, monkeypatch):
    monkeypatch.setattr(two, "here", False)
    data = de.load("simulated", subjects=4, sessions=1, trials=6, windows=(2, 3))
    with pytest.raises(ConfigurationError, match="Add --storage journal"):
        de.tune(data, output=tmp_path / "study", executor=two, **STUDY)
    with pytest.raises(ConfigurationError, match="expected that of domainemo"):
        de.tune(
            data, output=tmp_path / "study", executor=ProcessPoolExecutor(1), **STUDY
        )


# ------------------------------------------------------------------------------- SLURM


def test_the_script_that_slurm_is_given():
    asked = {
        "cores": 4,
        "memory": "16GB",
        "walltime": "12:00:00",
        "queue": "long",
        "account": "emotions",
        "job_extra_directives": ["--gres=gpu:1"],
        "job_script_prologue": ["module load python"],
        "python": "/shared/python",
    }
    slurm_cluster = opening.slurm_cluster(asked, 2)
    try:
        lines = slurm_cluster.job_script().splitlines()
    finally:
        slurm_cluster.close()
    for line in (
        "-p long",
        "-A emotions",
        "-n 1",
        "--cpus-per-task=4",
        "--mem=15G",
        "-t 12:00:00",
        "--gres=gpu:1",
    ):
        assert f"#SBATCH {line}" in lines
    command = lines[-1]
    assert lines[-2] == "module load python"
    assert command.startswith("/shared/python -m distributed.cli.dask_worker tcp://")
    assert "--nthreads 2" in command and "--nworkers" not in command


@pytest.mark.campaign
def test_slurm_runs_it_and_a_cancelled_job_loses_nothing(
    data, local, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("cluster.toml").write_text('[slurm]\ncores = 1\nmemory = "1GB"\n')
    with slurm() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

        def cancel():
            name = busy(executor)[0]
            info = executor._client.scheduler_info(n_workers=-1)["workers"][name]
            job = executor._client.cluster.workers[info["name"]].job_id
            subprocess.run(["scancel", job], check=True)

        with de.cluster("cluster.toml", jobs=2) as executor:
            watch = first_epochs(cancel)
            with pytest.warns(DomainemoWarning, match="was lost"):
                de.run(
                    data,
                    training=SHORT,
                    output="run",
                    executor=executor,
                    on_progress=watch,
                    **CHOICES,
                )
        Path("cluster.toml").write_text('[slurm]\ncores = 1\nmemory = "9TB"\n')
        with (
            pytest.raises(ConfigurationError, match="SLURM refuses such a job: "),
            de.cluster("cluster.toml", jobs=1),
        ):
            pass
    assert predicted("run") == local


class Beside:
    """In place of a process, and of a connection to it."""

    def __init__(self):
        self.killed = False

    def kill(self):
        self.killed = True

    def join(self):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("ends", ["before", "meanwhile", "after"])
def test_no_process_waits_for_a_run_that_has_ended(monkeypatch, tmp_path, ends):
    """Nor where a call of its still ended well, since nobody had dropped it yet."""
    from domainemo.machines import worker

    made = Beside()
    monkeypatch.setattr(worker, "companion", lambda *_: (made, Beside()))
    monkeypatch.setattr(worker, "_idle", [])
    monkeypatch.setattr(worker, "_ended", set())
    if ends == "before":
        worker.end_run("run")
    with worker._process("run", tmp_path):
        if ends == "meanwhile":
            worker.end_run("run")
        assert not made.killed
    if ends == "after":
        assert not made.killed and len(worker._idle) == 1
        worker.end_run("another")
        assert not made.killed
        worker.end_run("run")
    assert made.killed and not worker._idle
