"""Reading by name: joining, the cache, what makes an entry stale, what survives."""

import dataclasses
import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import domainemo
from domainemo.data import cache as cache_module
from domainemo.data.cache import entry_folder, read_entry, write_entry
from domainemo.errors import ConfigurationError, DataError, DomainemoWarning
from domainemo.files import record
from domainemo.registry import load_plugin
from domainemo.runs.execution import _lay_out

# A plug-in: no other process knows its class.
load_plugin(Path(__file__).parent / "fixtures" / "notebook.py")
Notebook = next(
    vars(module)["Notebook"]
    for name, module in sys.modules.items()
    if name.startswith("domainemo_plugin_notebook_")
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DOMAINEMO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "files"
    folder.mkdir()
    # Subject 10 sorts before 2 as text; sessions come out of order in the file.
    (folder / "2.txt").write_text("2 0 5 6\n1 1 7 8 9\n")
    (folder / "10.txt").write_text("1 0 1\n1 1 2 3\n")
    return folder


def reads(root):
    log = root / "reads.log"
    return log.read_text().split() if log.exists() else []


def entries(root):
    return sorted((root.parent / "cache").glob("*/*"))


def assert_same(one, other):
    assert one.inputs.name == other.inputs.name
    assert one.classes == other.classes
    assert one.inputs.modalities == other.inputs.modalities
    assert one.inputs.windows.equals(other.inputs.windows)
    assert (one.inputs.windows.dtypes == other.inputs.windows.dtypes).all()
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.labels.dtype == other.labels.dtype
    for name, array in one.inputs.signals.items():
        np.testing.assert_array_equal(array, other.inputs.signals[name])
        assert array.dtype == other.inputs.signals[name].dtype


# ------------------------------------------------------------------------- joining


def test_trials_are_joined_in_order_of_subject_session_and_trial(root):
    data = Notebook(root).load()
    expected = [
        # subject, session, trial, stimulus, start, label, value
        (2, 1, 2, "clip 2", 0.0, 1, 7.0),
        (2, 1, 2, "clip 2", 2.0, 1, 8.0),
        (2, 1, 2, "clip 2", 4.0, 1, 9.0),
        (2, 2, 1, "clip 1", 0.0, 0, 5.0),
        (2, 2, 1, "clip 1", 2.0, 0, 6.0),
        (10, 1, 1, "clip 1", 0.0, 0, 1.0),
        (10, 1, 2, "clip 2", 0.0, 1, 2.0),
        (10, 1, 2, "clip 2", 2.0, 1, 3.0),
    ]
    windows = data.inputs.windows
    found = [
        (*row, int(label), float(value))
        for row, label, value in zip(
            windows.itertuples(index=False, name=None),
            data.labels,
            data.inputs.signals["eeg"][:, 0, 0],
            strict=True,
        )
    ]
    assert found == expected
    assert data.inputs.signals["eeg"].dtype == np.float32
    assert data.inputs.name == (
        "notebook (scale 1); 2 subjects, 4 trials; cut short in 1 trial"
    )


def test_processes_read_what_one_process_reads(root, two_processes, monkeypatch):
    opened = "domainemo.data.reader.process_pool"
    monkeypatch.setattr(opened, lambda workers: nullcontext(two_processes))
    told = []
    parallel = Notebook(root).load(jobs=2, on_read=lambda *news: told.append(news))
    assert told == [(1, 2, "subject 2"), (2, 2, "subject 10")]
    assert_same(parallel, Notebook(root).load())


def test_a_broken_trial_stops_a_load_but_not_the_reading_of_the_others(root):
    (root / "2.txt").write_text("1 0 5\nbroken\n1 1 6\nbroken\n")
    with pytest.raises(DataError, match=r"2\.txt, line 2: found broken"):
        domainemo.load(Notebook(root), jobs=1)
    assert not entries(root)
    reader = Notebook(root)
    ((_, read),) = reader.read_all(reader.recordings()[:1])
    assert [isinstance(each, DataError) for each in read] == [False, True, False, True]


@pytest.mark.parametrize(
    ("line", "found"),
    [("1 0", "an array of shape (0, 1, 1)"), ("1 0 1 inf", "found inf")],
)
def test_no_reader_lets_an_empty_or_infinite_trial_through(root, line, found):
    (root / "2.txt").write_text(line + "\n")
    with pytest.raises(DataError) as caught:
        Notebook(root).load()
    message = str(caught.value)
    assert found in message
    assert f"{root / '2.txt'}, session 1, trial 1, modality 'eeg'" in message


def test_no_files_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no trial at all"):
        Notebook(tmp_path).load()


# --------------------------------------------------------------------------- cache


def test_the_second_load_maps_the_first_ones_arrays_and_reads_no_file(root):
    plain = Notebook(root).load()
    (root / "reads.log").unlink()
    first = domainemo.load(Notebook(root), jobs=1)
    assert reads(root) == ["2.txt", "10.txt"]
    second = domainemo.load(Notebook, root)
    assert reads(root) == ["2.txt", "10.txt"]
    for data in (first, second):
        assert_same(data, plain)
        assert isinstance(data.inputs.signals["eeg"], np.memmap)
        assert not data.inputs.signals["eeg"].flags.writeable


def test_without_the_cache_nothing_is_kept_or_taken(root):
    domainemo.load(Notebook(root), jobs=1)
    domainemo.load(Notebook(root), cache=False, jobs=1)
    assert reads(root) == 2 * ["2.txt", "10.txt"]
    assert len(entries(root)) == 1


def test_the_path_by_which_files_are_reached_does_not_matter(root, monkeypatch):
    domainemo.load(Notebook(root), jobs=1)
    monkeypatch.chdir(root.parent)
    domainemo.load(Notebook, "files", jobs=1)
    assert len(reads(root)) == 2


def test_a_changed_file_is_read_again_and_its_old_entry_goes(root):
    domainemo.load(Notebook(root), jobs=1)
    (old,) = entries(root)
    path = root / "10.txt"
    status = path.stat()
    path.write_text("1 0 4\n1 1 2 3\n")  # as long as before, and later
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    data = domainemo.load(Notebook(root), jobs=1)
    assert data.inputs.signals["eeg"][5, 0, 0] == 4
    (new,) = entries(root)
    assert new != old


def test_files_that_change_places_are_read_again(root):
    """Of one size and one time of change: as DEAP's are, out of one archive."""
    for name in ("2.txt", "10.txt"):
        (root / name).write_text("1 0 1\n1 1 2 3\n".replace("3", name[0]))
        os.utime(root / name, ns=(10**18, 10**18))
    first = domainemo.load(Notebook(root), jobs=1)
    for old, new in (("2", "spare"), ("10", "2"), ("spare", "10")):
        os.rename(root / f"{old}.txt", root / f"{new}.txt")
    second = domainemo.load(Notebook(root), jobs=1)
    assert len(reads(root)) == 4
    assert first.inputs.signals["eeg"][2] == second.inputs.signals["eeg"][5]


def test_links_by_another_name_are_read_again(root, tmp_path):
    """A link's name may tell the subject, and what it leads to nothing."""
    store = tmp_path / "store"
    root.rename(store)
    root.mkdir()
    for name, kept in (("2", "2"), ("3", "10")):
        (root / f"{name}.txt").symlink_to(store / f"{kept}.txt")
    assert set(domainemo.load(Notebook(root), jobs=1).inputs.windows["subject"]) == {
        2,
        3,
    }
    (root / "3.txt").rename(root / "7.txt")
    assert set(domainemo.load(Notebook(root), jobs=1).inputs.windows["subject"]) == {
        2,
        7,
    }


def test_a_link_that_leads_nowhere_is_told(root):
    (root / "3.txt").symlink_to(root / "nothing.txt")
    with pytest.raises(DataError, match=r"3\.txt: found what cannot be read"):
        domainemo.load(Notebook(root), jobs=1)


def test_codes_for_missing_values_are_told_each_time(root):
    lines = "".join(f"1 {n % 2} {n}\n" for n in range(40)) + "1 0 -9999 -9999\n"
    (root / "2.txt").write_text(lines.replace("1 ", "1 ", 1))
    for _ in range(2):
        with pytest.warns(
            DomainemoWarning, match="the value -9999, far from all"
        ) as told:
            domainemo.load(Notebook(root), jobs=1)
        assert len(told) == 1
    assert len(reads(root)) == 2


def test_one_more_file_is_another_state(root):
    domainemo.load(Notebook(root), jobs=1)
    (root / "3.txt").write_text("1 0 1\n1 1 2 3\n")
    data = domainemo.load(Notebook(root), jobs=1)
    assert set(data.inputs.windows["subject"]) == {2, 3, 10}


def test_each_choice_of_options_has_an_entry_of_its_own(root):
    for scale in (1.0, 2.0, 1.0, 2.0):
        data = domainemo.load(Notebook, root, scale=scale, jobs=1)
        assert data.inputs.signals["eeg"][0, 0, 0] == 7 * scale
    assert len(entries(root)) == 2
    assert len(reads(root)) == 4


def test_other_code_makes_another_entry(root, monkeypatch):
    domainemo.load(Notebook(root), jobs=1)
    monkeypatch.setattr(cache_module, "_code", lambda: "a corrected reader")
    domainemo.load(Notebook(root), jobs=1)
    assert len(reads(root)) == 4
    assert len(entries(root)) == 1


def damage_all(root):
    (folder,) = entries(root)
    return [
        lambda path=path, cut=cut: cut(path)
        for path in sorted(folder.iterdir())
        for cut in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-7]))
    ]


def test_a_damaged_entry_is_made_anew(root):
    plain = Notebook(root).load()
    domainemo.load(Notebook(root), jobs=1)
    damages = damage_all(root)
    assert len(damages) == 10
    for damage in damages:
        damage()
        with pytest.warns(DomainemoWarning, match="is damaged, so they are read again"):
            found = domainemo.load(Notebook(root), jobs=1)
        assert_same(found, plain)
        (folder,) = entries(root)
        assert read_entry(folder) is not None


def test_a_reading_that_was_killed_leaves_nothing_that_counts(root, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Path, "replace", kill)
        domainemo.load(Notebook(root), jobs=1)
    assert all(path.name.endswith(".partial") for path in entries(root))
    domainemo.load(Notebook(root), jobs=1)
    assert len(reads(root)) == 4


def test_where_nothing_can_be_kept_the_data_come_with_a_note(root, monkeypatch):
    (root.parent / "a file").write_text("")
    monkeypatch.setenv("DOMAINEMO_CACHE", str(root.parent / "a file"))
    with pytest.warns(DomainemoWarning, match="DOMAINEMO_CACHE"):
        data = domainemo.load(Notebook(root), jobs=1)
    assert_same(data, Notebook(root).load())


def test_two_that_write_the_same_entry_agree(root):
    data = Notebook(root).load()
    folder = entry_folder("notebook", {}, Notebook(root).files())
    write_entry(folder, data)
    mapped = read_entry(folder)
    write_entry(folder, data)
    assert_same(read_entry(folder), mapped)
    np.testing.assert_array_equal(
        mapped.inputs.signals["eeg"], data.inputs.signals["eeg"]
    )
    assert len(entries(root)) == 1


def test_an_entry_does_not_run_what_it_holds(root):
    """Arrays of objects would be pickles; they count as damage."""
    domainemo.load(Notebook(root), jobs=1)
    (folder,) = entries(root)
    np.save(folder / "eeg.npy", np.array([{"a": 1}] * 8), allow_pickle=True)
    record(folder)
    with pytest.warns(DomainemoWarning, match="Python objects"):
        assert read_entry(folder) is None
    stored = json.loads((folder / "entry.json").read_text())
    assert stored["classes"] == ["calm", "tense"]


def test_mapped_arrays_reach_the_workers_as_the_same_file(root, tmp_path):
    data = domainemo.load(Notebook(root), jobs=1)
    array = data.take(np.arange(len(data))).inputs.signals["eeg"]
    _lay_out(array, tmp_path / "shared.npy")
    assert os.path.samefile(tmp_path / "shared.npy", array.filename)
    _lay_out(array[2:], tmp_path / "part.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "part.npy"), array[2:])
    assert not os.path.samefile(tmp_path / "part.npy", array.filename)


def test_a_run_on_mapped_recordings_is_that_on_plain_ones(root):
    for subject in (2, 10, 11):
        lines = [f"1 {trial % 2} {trial} {subject} 0.5" for trial in range(6)]
        (root / f"{subject}.txt").write_text("\n".join(lines))
    choices = {
        "backbone": "r2gfanet",
        "adapter": "none",
        "training": domainemo.Training(epochs=1),
        "device": "cpu",
    }
    mapped = domainemo.run(domainemo.load(Notebook(root), jobs=1), **choices)
    plain = domainemo.run(Notebook(root).load(), **choices)
    columns = ["method", "fold", "subject", "level", "balanced_accuracy"]
    assert mapped.table[columns].equals(plain.table[columns])


# -------------------------------------------------------------------------- by name


def test_simulated_recordings_need_no_root():
    data = domainemo.load("simulated", subjects=2, trials=3, sessions=1)
    assert set(data.inputs.windows["subject"]) == {1, 2}
    with pytest.raises(ConfigurationError, match="has no files"):
        domainemo.load("simulated", "somewhere")


def test_a_root_or_option_that_is_missing_or_unknown_is_named(root, monkeypatch):
    monkeypatch.delenv("DOMAINEMO_DATA", raising=False)
    with pytest.raises(ConfigurationError, match="DOMAINEMO_DATA"):
        domainemo.load(Notebook)
    with pytest.raises(ConfigurationError, match="no option 'size'; expected one of"):
        domainemo.load(Notebook, root, size=2)
    for what in (None, 7, int, ["seed-iv"]):
        with pytest.raises(ConfigurationError, match="expected a name, the path of"):
            domainemo.load(what)
    with pytest.raises(ConfigurationError, match="give none beside it"):
        domainemo.load(Notebook(root), scale=2.0)
    monkeypatch.setenv("DOMAINEMO_DATA", str(root))
    assert len(domainemo.load(Notebook, jobs=1)) == 8


@pytest.mark.parametrize("named", ["_gain", "gain"])
def test_options_count_wherever_a_reader_keeps_them(root, named):
    class Amplified(Notebook):
        def __init__(self, root, *, gain: float = 1.0):
            super().__init__(root)
            setattr(self, named, gain)

        def trials(self, recording):
            for trial in super().trials(recording):
                louder = getattr(self, named) * trial.signals["eeg"]
                yield dataclasses.replace(trial, signals={"eeg": louder})

    low, high = (domainemo.load(Amplified(root, gain=g), jobs=1) for g in (1.0, 100.0))
    signals = (each.inputs.signals["eeg"] for each in (low, high))
    np.testing.assert_allclose(100 * next(signals), next(signals))


def test_a_reader_of_a_notebook_is_read_again_where_it_was_changed(root):
    """Its class stands in no file: the next cell has another of the same name."""

    def cell(factor):
        made = {"Notebook": Notebook, "replace": dataclasses.replace}
        made["__name__"] = "__main__"
        code = f"""
class Mine(Notebook):
    def trials(self, recording):
        for trial in super().trials(recording):
            yield replace(trial, signals={{"eeg": {factor} * trial.signals["eeg"]}})
"""
        exec(compile(code, "<cell>", "exec"), made)
        return made["Mine"]

    first, second = (domainemo.load(cell(n)(root), jobs=1) for n in (1.0, 3.0))
    found = second.inputs.signals["eeg"] / first.inputs.signals["eeg"]
    np.testing.assert_allclose(found, 3.0)


def test_times_of_change_to_the_nanosecond_count(root):
    """A whole second would miss a file that a script writes twice."""
    reader = Notebook(root)
    before = entry_folder("notebook", {}, reader.files())
    time.sleep(0.01)
    path = root / "2.txt"
    path.write_text(path.read_text())
    assert entry_folder("notebook", {}, reader.files()) != before


@pytest.mark.parametrize("kind", ["as read", "changed", "reshaped", "raw", "retyped"])
def test_workers_get_the_values_that_an_array_has(tmp_path, kind):
    """Of a mapped array its file is handed on only where it says the same."""
    written = np.arange(24, dtype=np.float32).reshape(6, 4)
    np.save(tmp_path / "kept.npy", written)
    mapped = np.load(tmp_path / "kept.npy", mmap_mode="c" if kind == "changed" else "r")
    if kind == "changed":
        mapped[2] = -1
    elif kind == "reshaped":
        mapped = mapped.reshape(6, 2, 2)
    elif kind == "retyped":
        mapped = mapped.view(np.int32)
    elif kind == "raw":
        written.tofile(tmp_path / "raw.bin")
        mapped = np.memmap(tmp_path / "raw.bin", np.float32, mode="r", shape=(6, 4))
    assert isinstance(mapped, np.memmap)
    _lay_out(mapped, tmp_path / "sent.npy")
    sent = np.load(tmp_path / "sent.npy")
    np.testing.assert_array_equal(sent, mapped)
    assert sent.dtype == mapped.dtype
    linked = (tmp_path / "sent.npy").samefile(tmp_path / "kept.npy")
    assert linked == (kind == "as read")


def test_a_table_folder_is_read_by_its_path(tmp_path, monkeypatch):
    """A word is a data set's name, and the folder is told from it."""
    monkeypatch.chdir(tmp_path)
    data = domainemo.Simulated(subjects=2, sessions=1, trials=3).load()
    domainemo.write_table(data, "tb")
    made = domainemo.load(Path("tb"))
    np.testing.assert_array_equal(made.labels, data.labels)
    assert domainemo.check(tmp_path / "tb").windows == len(data)
    with pytest.raises(ConfigurationError, match=r'Read it with load\("table", .tb.\)'):
        domainemo.load("tb")
    with pytest.raises(ConfigurationError, match=r"'tb', and root is 'x'; .* one of"):
        domainemo.load(Path("tb"), "x")
    with pytest.raises(DataError, match=r"nowhere: found no such folder"):
        domainemo.load(Path("nowhere"))
