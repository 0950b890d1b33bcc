"""The shipped checks of data sets: a stranger's passes them, a bad reader is caught."""

from __future__ import annotations

import importlib
import io
import re
import shlex
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from domainemo import DataError, Dataset, Modality, from_arrays, registry
from domainemo.cli import app
from domainemo.core import EmotionData
from domainemo.data.files import read_npz
from domainemo.data.reader import Reader, Recording, Trial
from domainemo.data.recorded import Recorded
from domainemo.data.simulator import Simulated
from domainemo.data.table import Table, write_table
from domainemo.errors import ConfigurationError
from domainemo.testing import check, checks

PAGE = Path(__file__).parents[1] / "docs" / "new-dataset.md"
ELECTRODES = ("Fp1", "Fp2", "T7", "T8")
KEYS = ("power", "film", "emotion")


def recorded(number):
    return {
        "power": np.random.default_rng(number).normal(size=(20, 4, 5)),
        "film": np.repeat([1, 2, 3, 4], 5),
        "emotion": np.repeat([0, 1, 0, 1], 5),
    }


def write(folder):
    for number in (1, 2):
        np.savez(folder / f"P0{number}.npz", **recorded(number))


# --------------------------------------------------------------------------- the page


@pytest.fixture
def stranger(monkeypatch, tmp_path):
    """Forget what a test registers and imports; stand in a folder of its own."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOMAINEMO_CACHE", str(tmp_path / "kept"))
    yield tmp_path
    registry._classes.pop(("dataset", "film-lab"), None)
    for name in ("film_lab", "check_film_lab"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def page_blocks():
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def page_module(folder):
    """Write both files of the page, and import the one that checks the other."""
    reader, _, checking = page_blocks()
    (folder / "film_lab.py").write_text(reader, encoding="utf-8")
    (folder / "check_film_lab.py").write_text(checking, encoding="utf-8")
    return importlib.import_module("check_film_lab")


def test_the_page_runs_as_it_stands(stranger):
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line]) <= 60, "one screen"
    module = page_module(stranger)  # which runs the checks
    check(module.FilmLab, options={"logarithm": False}, files=module.write)


def test_the_page_says_how_it_is_run(stranger):
    (stranger / "film_lab.py").write_text(page_blocks()[0], encoding="utf-8")
    space = {"np": np}
    text = page_blocks()[2]
    exec(text[text.index("def write") : text.index("check(FilmLab")], space)
    (stranger / "recordings").mkdir()
    space["write"](stranger / "recordings")
    (command,) = re.findall(r"^    domainemo (.*)", PAGE.read_text(), re.MULTILINE)
    (first,) = re.findall(r"`(--fold .*?)`", PAGE.read_text())
    small = ["--no-baselines", "--jobs=1", "--set=backbone.width=8", "--output=run"]
    done = CliRunner().invoke(
        app,
        [*command.split(), *shlex.split(first), *small, "--set=backbone.heads=1"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    told = Path("run/how.txt").read_text()
    assert "film lab (band power)" in told and "1 fold," in told


class Csv(Dataset):
    """Two people, a CSV file each, counted as the page does.

    Parameters
    ----------
    root : Path
    """

    def __init__(self, root):
        self.root = Path(root)

    def load(self):
        files = sorted(self.root.glob("P0[0-9].csv"))
        if not files:
            raise DataError(f"{self.root}: found no P01.csv; expected a file a person.")
        people = [self.read(path) for path in files]
        table = pd.concat(people)
        return from_arrays(
            {"eeg": table[[*ELECTRODES]].to_numpy()[:, :, None]},
            table["emotion"].to_numpy(),
            subject=np.repeat([path.stem for path in files], [*map(len, people)]),
            trial=table["film"].to_numpy(),
            classes=["sad", "happy"],
            modalities={"eeg": ELECTRODES},
            name="films in CSV",
        )

    def read(self, path):
        numbers = dict.fromkeys(ELECTRODES, float)
        columns = {"film": int, "emotion": str, **numbers}
        try:
            exec(page_blocks()[1], {"path": path, "DataError": DataError})
            table = pd.read_csv(path, dtype=columns)
            if list(table) != list(columns):
                raise DataError(f"columns {', '.join(table)}")
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}") from error
        return table


def write_csv(folder):
    for number in (1, 2):
        power = np.random.default_rng(number).exponential(size=(40, 4))
        table = pd.DataFrame(power, columns=ELECTRODES)
        table.insert(0, "emotion", np.repeat(["sad", "happy"] * 2, 10))
        table.insert(0, "film", np.repeat([1, 2, 3, 4], 10))
        table.to_csv(folder / f"P0{number}.csv", index=False)


def test_counting_lines_as_the_page_does_notices_every_cut(tmp_path):
    check(Csv, files=write_csv)
    write_csv(tmp_path)
    whole = (tmp_path / "P02.csv").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "P02.csv").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"P02\.csv: found \d+ whole lines"):
            Csv(tmp_path).read(tmp_path / "P02.csv")


# ----------------------------------------------------------------------- good data sets


class Films(Dataset):
    """Two people, four films each.

    Parameters
    ----------
    root : Path
    gain : float
        What the signals are multiplied by.
    """

    def __init__(self, root, *, gain: float = 1.0):
        self.root, self.gain = Path(root), gain

    def files(self):
        found = sorted(self.root.glob("P0[0-9].npz"))
        if not found:
            raise DataError(f"{self.root}: found no P01.npz; expected a file a person.")
        return found

    def read(self, path):
        return read_npz(path, KEYS)

    def load(self):
        people = {path.stem: self.read(path) for path in self.files()}
        whole = {k: np.concatenate([p[k] for p in people.values()]) for k in KEYS}
        subject = np.repeat(list(people), [len(p["film"]) for p in people.values()])
        return from_arrays(
            {"eeg": whole["power"] * self.gain},
            whole["emotion"],
            subject=subject,
            trial=whole["film"],
            window=4.0,
            classes=["sad", "happy"],
            modalities={"eeg": ELECTRODES},
            name="films",
        )


class Sessions(Reader):
    """The same files, recording by recording.

    Parameters
    ----------
    root : Path
    gain : float
        What the signals are multiplied by.
    """

    home = "https://example.org/films"
    classes = ("sad", "happy")

    def __init__(self, root, *, gain: float = 1.0):
        self.root, self.gain = Path(root), gain

    def recordings(self):
        found = sorted(self.root.glob("P0[0-9].npz"))
        if not found:
            raise DataError(f"{self.root}: found no P01.npz; expected a file a person.")
        return [Recording(int(path.stem[1:]), {"eeg": path}) for path in found]

    def trials(self, recording):
        stored = read_npz(recording.files["eeg"], KEYS)
        for film in np.unique(stored["film"]).tolist():
            rows = stored["film"] == film
            signals = {"eeg": self.signal(stored["power"][rows])}
            (label,) = np.unique(stored["emotion"][rows]).tolist()
            yield Trial(1, film, film, label, signals, np.arange(rows.sum()) * 4.0)

    def signal(self, power):
        return power * self.gain

    def modalities(self):
        features = tuple(f"band {number}" for number in range(5))
        return {"eeg": Modality(ELECTRODES, features, "eeg")}

    def title(self):
        return "films"

    def release(self):
        return f"{len(self.recordings())} of 9 people"

    def missing(self):
        return []


def write_changing(folder):
    """Write a table of three films, in the first of which the label changes."""
    data = Simulated(subjects=2, sessions=1, trials=3, windows=(4, 5)).load()
    labels = data.labels.copy()
    labels[:2] = (labels[2] + 1) % 3
    write_table(replace(data, labels=labels), folder)


def write_recorded(folder):
    """Write two people's recordings of three clips, as MNE does."""
    for seed, person in enumerate(("ann", "bob")):
        (folder / person).mkdir()
        values = 1e-5 * np.random.default_rng(seed).normal(size=(2, 30 * 64))
        info = mne.create_info(["EEG Fp1-REF", "Fp2"], 64, "eeg")
        raw = mne.io.RawArray(values, info, verbose="error")
        clips = mne.Annotations([2, 12, 17], [8, 5, 12], ["calm", "tense", "calm"])
        raw.set_annotations(clips)
        raw.save(folder / person / "films_raw.fif", verbose="error")


GOOD = {
    "films": (Films, {"files": write}),
    "sessions": (Sessions, {"files": write}),
    "simulated": (
        Simulated,
        {"options": {"subjects": 2, "sessions": 1, "trials": 3, "windows": (3, 4)}},
    ),
    "table": (Table, {"files": write_changing, "options": {"label": "split"}}),
    "mne": (Recorded, {"files": write_recorded, "options": {"feature": "raw"}}),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_data_set_passes(name):
    part, given = GOOD[name]
    check(part, **given)


def test_a_folder_of_files_is_copied_and_left_alone(tmp_path):
    write(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    check(Films, files=tmp_path)
    checks(Films, files=str(tmp_path))[1]()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_labels_that_change_are_caught_where_no_option_splits_the_trial():
    found = {each.name: each for each in checks(Table, files=write_changing)}
    with pytest.raises(AssertionError, match="more than one label in subject 1, sess"):
        found["one_label"]()


def test_what_has_no_files_has_no_checks_of_files():
    names = {each.name for each in checks(Simulated)}
    assert "order" in names and "cut_files" not in names


def test_files_are_asked_for_where_they_are_needed_and_only_there():
    with pytest.raises(ConfigurationError, match=r"Films reads files, .* Give files="):
        checks(Films)
    with pytest.raises(ConfigurationError, match=r"Simulated reads no files.*'root'"):
        checks(Simulated, files=write)


# ----------------------------------------------------------- bad ones fail their check


class NotDocumented(Films):
    """Films, of which nobody knows the option."""


class NotKeyword(Films):
    """Films.

    Parameters
    ----------
    root : Path
    gain : float
    """

    def __init__(self, root, gain: float = 1.0):
        super().__init__(root, gain=gain)


class Changed(Films):
    """What is read, changed."""

    def __init__(self, root):
        super().__init__(root)

    def load(self):
        data = super().load()
        data = data.take(np.arange(len(data)))
        return self.change(data, data.inputs.windows)

    def change(self, data, windows):
        return data


class Nameless(Changed):
    def change(self, data, windows):
        return replace(data, inputs=replace(data.inputs, name="unnamed recordings"))


class OtherColumns(Changed):
    def change(self, data, windows):
        turned = windows[windows.columns[::-1]]
        return replace(data, inputs=replace(data.inputs, windows=turned))


class TwoStimuli(Changed):
    def change(self, data, windows):
        other = windows.assign(stimulus=np.arange(len(windows)))
        return replace(data, inputs=replace(data.inputs, windows=other))


class Twice(Changed):
    def change(self, data, windows):
        return data.take(np.append(np.arange(len(data)), 39))


class Backwards(Changed):
    def change(self, data, windows):
        return data.take(np.arange(len(data))[::-1])


class Gap(Changed):
    def change(self, data, windows):
        return data.take(np.delete(np.arange(len(data)), 2))


class Overlap(Changed):
    def change(self, data, windows):
        start = windows["start"].where(windows.index != 2, 7.0)
        other = windows.assign(start=start)
        return replace(data, inputs=replace(data.inputs, windows=other))


class Interleaved(Changed):
    def change(self, data, windows):
        order = np.argsort(windows["start"].to_numpy(), kind="stable")
        return data.take(order)


class BeyondClasses(Changed):
    def change(self, data, windows):
        data.labels[3:5] = 7
        return data


class OneClass(Changed):
    def change(self, data, windows):
        return EmotionData(data.inputs, data.labels * 0, ("sad",))


class ChangesItsMind(Changed):
    def change(self, data, windows):
        data.labels[3] = 1
        return data


class Double(Changed):
    def change(self, data, windows):
        wide = {"eeg": data.inputs.signals["eeg"].astype(np.float64)}
        return replace(data, inputs=replace(data.inputs, signals=wide))


class Infinite(Changed):
    def change(self, data, windows):
        data.inputs.signals["eeg"][5, 0] = np.inf
        return data


class DeadElectrode(Changed):
    def change(self, data, windows):
        data.inputs.signals["eeg"][:20, 1] = np.nan
        return data


class Noisy(Changed):
    def change(self, data, windows):
        data.inputs.signals["eeg"][0, 0, 0] = np.random.default_rng().normal()
        return data


class NoData(Changed):
    def change(self, data, windows):
        return data.inputs


class LeavesAnIndex(Films):
    def load(self):
        (self.root / "index.txt").write_text("P01 P02")
        return super().load()


class Touches(Films):
    def read(self, path):
        path.touch()
        return super().read(path)


class Unasked(Films):
    def files(self):
        return sorted(self.root.glob("P0[0-9].npz"))


class MakesUp(Films):
    def load(self):
        if not self.root.is_dir():
            return from_arrays(
                {"eye": np.ones((2, 1))}, [0, 1], subject=[1, 2], trial=1, window=1.0
            )
        return super().load()


class Fixed(Films):
    def files(self):
        if not self.root.is_dir() or not list(self.root.iterdir()):
            return super().files()
        return [self.root / "P01.npz", self.root / "P02.npz"]

    def read(self, path):
        path.stat()
        return super().read(path)


class TakesTheNext(Films):
    """Numbers people by their order."""

    def read(self, path):
        stored = super().read(path)
        people = [each.name for each in self.files()]
        return {**stored, "power": stored["power"] + people.index(path.name)}


class TakesAll(Films):
    def files(self):
        return sorted(self.root.glob("*.npz")) or super().files()


class TakesNumPysWord(Films):
    def read(self, path):
        return dict(np.load(io.BytesIO(path.read_bytes())))


class SkipsWhatItCannotRead(Films):
    def files(self):
        return [path for path in super().files() if self.readable(path)]

    def readable(self, path):
        try:
            return bool(super().read(path))
        except DataError:
            return False


class NamesNoFile(Films):
    def read(self, path):
        try:
            return super().read(path)
        except DataError as error:
            raise DataError("A file is damaged.") from error


@lru_cache
def read_once(path):
    return read_npz(path, KEYS)


class Remembers(Films):
    def read(self, path):
        return read_once(path)


class Rows(Films):
    """The same as text, a row a window, without a count of them."""

    def files(self):
        found = sorted(self.root.glob("P0[0-9].csv"))
        if not found:
            raise DataError(f"{self.root}: found no P01.csv; expected a file a person.")
        return found

    def read(self, path):
        try:
            rows = pd.read_csv(path, on_bad_lines="skip", header=None)
            values = rows.to_numpy(np.float64)
            power = values[:, 2:].reshape(-1, 4, 5)
        except (ValueError, OSError) as error:
            raise DataError(f"{path}: {error}") from error
        film, emotion = values[:, :2].T.astype(int)
        return {"film": film, "emotion": emotion, "power": power}


def write_rows(folder):
    for number in (1, 2):
        made = recorded(number)
        rows = np.column_stack(
            [made["film"], made["emotion"], made["power"].reshape(20, 20)]
        )
        np.savetxt(folder / f"P0{number}.csv", rows, fmt="%.4g", delimiter=",")


class Homeless(Sessions):
    home = ""


class Forgets(Sessions):
    """Keeps the option under another name.

    Parameters
    ----------
    root : Path
    gain : float
        What the signals are multiplied by.
    """

    def __init__(self, root, *, gain: float = 1.0):
        self.root, self.factor = Path(root), gain

    def signal(self, power):
        return power * self.factor


class HidesAFile(Sessions):
    def signal(self, power):
        return power * np.loadtxt(self.root / "gain.txt")


def write_hidden(folder):
    write(folder)
    (folder / "gain.txt").write_text("2")


class Normalises(Sessions):
    """By the mean of all that was read before."""

    def __init__(self, root):
        super().__init__(root)
        self.seen = []

    def signal(self, power):
        self.seen.append(power.mean())
        return power - np.mean(self.seen)


class StaysHere(Sessions):
    def __init__(self, root):
        super().__init__(root)
        self.made = lambda: None


BROKEN = [
    (NotDocumented, "options", "nothing about the option 'gain'"),
    (NotKeyword, "options", "the parameter 'gain', which is not keyword-only"),
    (Nameless, "provenance", "recordings called 'unnamed recordings'"),
    (OtherColumns, "provenance", "the columns start, stimulus, trial, session, subj"),
    (TwoStimuli, "provenance", "more than one stimulus in subject P01, session 1, t"),
    (Twice, "provenance", r"two windows with subject P02, .*trial 4, start 16\.0"),
    (Backwards, "order", r"out of place, with subject P02, .*trial 4, start 16\.0"),
    (Gap, "whole_trials", r"8 s to the next window from that with .*start 4\.0, whe"),
    (Overlap, "whole_trials", r"3 s to the next window .*windows are 4 s apart"),
    (Interleaved, "whole_trials", "windows of another trial within subject P01, ses"),
    (BeyondClasses, "labels", "the label 7"),
    (OneClass, "labels", "the classes sad"),
    (ChangesItsMind, "one_label", "more than one label in subject P01, session 1, t"),
    (Double, "signals", "'eeg' of type float64"),
    (Infinite, "signals", "infinite values in 'eeg'"),
    (DeadElectrode, "signals", "NaN in every window in Fp2 of subject P01"),
    (Noisy, "repeatable", "other values in 'eeg', the second time"),
    (NoData, "labels", r"a Inputs that load\(\) returns, not an EmotionData"),
    (LeavesAnIndex, "leaves_files_alone", "index.txt, which reading has left there"),
    (Touches, "leaves_files_alone", "P01.npz changed"),
    (Unasked, "no_files", r"ValueError \(.*\) of a root that is 'nothing'"),
    (MakesUp, "no_files", "2 windows and no error of a root that is 'nothing'"),
    (Fixed, "missing_files", r"FileNotFoundError \(.*\) without P01.npz"),
    (TakesTheNext, "missing_files", "other values in 'eeg' without P01.npz"),
    (TakesAll, "stray_files", "60 windows, and 40 before, with copy of P01.npz besi"),
    (TakesNumPysWord, "unreadable_files", r"EOFError \(.*\) with P01.npz emptied"),
    (SkipsWhatItCannotRead, "unreadable_files", "20 windows and no error with P01"),
    (Remembers, "unreadable_files", "40 windows and no error with P01.npz emptied"),
    (NamesNoFile, "unreadable_files", "a DataError that does not name P01.npz with"),
    (TakesNumPysWord, "cut_files", "BadZipFile .* with P01.npz cut off after"),
    (Rows, "cut_files", "windows, and 40 before, with P01.csv cut off after"),
    (TakesNumPysWord, "flipped_files", "BadZipFile .* with P01.npz with"),
    (Rows, "flipped_files", "windows in place of 40 with P01.csv with"),
    (Homeless, "told", "home is ''"),
    (Forgets, "told", "no attribute 'gain' for the option"),
    (
        HidesAFile,
        "names_its_files",
        r"FileNotFoundError \(.*gain.txt not found\) without gain.txt",
    ),
    (Normalises, "alone", "other values in 'eeg' of subject 2, trial 1"),
    (StaysHere, "travels", "ConfigurationError: Other processes cannot be sent"),
]
FILES = {Rows: write_rows, HidesAFile: write_hidden}


@pytest.mark.parametrize(
    ("part", "name", "sentence"),
    BROKEN,
    ids=[f"{part.__name__}-{name}" for part, name, _ in BROKEN],
)
def test_a_bad_reader_is_caught(part, name, sentence):
    found = {each.name: each for each in checks(part, files=FILES.get(part, write))}
    with pytest.raises(AssertionError, match=sentence) as caught:
        found[name]()
    message = str(caught.value)
    assert message.startswith(f"{part.__name__} fails the check '{name}': found ")
    assert "; expected " in message and message.endswith(".")


def test_every_check_has_a_bad_reader():
    names = {each.name for each in checks(Sessions, files=write)}
    assert names == {name for _, name, _ in BROKEN}


def test_a_check_of_a_file_is_skipped_by_name():
    names = [each.name for each in checks(Rows, files=write_rows, skip=("cut_files",))]
    assert "cut_files" not in names and "flipped_files" in names
