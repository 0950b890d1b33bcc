"""Damaged files: the right data or a clear error, never anything in between.

Every data set's files are cut off, flipped bit by bit, overwritten, renamed, and saved
again with arrays of other shapes, types and values. ``FUZZING`` in the environment
multiplies the number of examples: 1 to try, 10 and more after a change of a reader.
Foreign files and folders in their place are among the shipped checks of data sets.
"""

import contextlib
import io
import os
import pickle
import resource
from datetime import timedelta

import numpy as np
import pytest
import scipy.io
from fixtures.every import FIXTURES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domainemo.errors import DataError
from domainemo.registry import find

TIMES = float(os.environ.get("FUZZING", "1"))
NAMES = sorted(FIXTURES)
UNPROTECTED = {"deap", "seed-multimodal", "eegmat"}
"""Plain pickles and EDF carry no checksum: a flipped value is another value."""

BOUND = 1.5 * 2**30
"""Bytes that reading small damaged files may take at most, beside what tests hold."""


def examples(count):
    return settings(
        max_examples=max(1, round(count * TIMES)),
        deadline=timedelta(seconds=20),
        derandomize=TIMES == 1,  # a suite says the same of the same tree
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class Files:
    """A data set's files, what is read from them whole, and what after damage."""

    def __init__(self, name, root):
        fixture = FIXTURES[name]
        fixture.write(root)
        options = fixture.options if fixture.quick is None else fixture.quick
        self.name, self.root = name, root
        self.reader = find("dataset", name)(root, **options)
        self.recording = self.reader.recordings()[0]
        self.paths = sorted(set(self.recording.files.values()))
        self.content = {path: path.read_bytes() for path in self.paths}
        self.truth = {
            (trial.session, trial.trial): trial
            for trial in self.reader.read(self.recording)
        }
        assert self.truth
        assert not any(isinstance(trial, DataError) for trial in self.truth.values())

    @contextlib.contextmanager
    def damaged(self, path, content):
        path.write_bytes(content)
        os.utime(path, ns=(0, hash(content) % 10**15))  # a file read before is known
        try:
            yield
        finally:
            path.write_bytes(self.content[path])

    def read(self):
        """Return the trials of the recording, and the errors."""
        try:
            found = {each.name: each for each in self.reader.recordings()}
        except DataError as error:
            return [], [error]
        if self.recording.name not in found:
            return [], []
        read = self.reader.read(found[self.recording.name])
        errors = [each for each in read if isinstance(each, DataError)]
        return [each for each in read if not isinstance(each, DataError)], errors

    def check(self, path, *, exact):
        """Require right data, or errors that say where."""
        trials, errors = self.read()
        for error in errors:
            message = str(error)
            assert str(self.root) in message, message
            assert "found" in message and "expected" in message, message
            assert len(message) < 3000, message
        for trial in trials:
            true = self.truth[trial.session, trial.trial]
            assert trial.stimulus == true.stimulus
            # DEAP's ratings are values of the file, of which one may be flipped too.
            assert trial.label == true.label or (self.name == "deap" and not exact)
            windows = len(trial.start)
            assert 0 < windows <= len(true.start)
            assert np.array_equal(trial.start, true.start[:windows])
            for modality, array in trial.signals.items():
                expected = true.signals[modality][:windows]
                assert array.shape == expected.shape
                if exact:
                    np.testing.assert_array_equal(array, expected, str(path))
        return trials, errors


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a data set's files, written once."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = Files(name, tmp_path_factory.mktemp(name))
        return made[name]

    return of


@pytest.fixture(autouse=True)
def bounded_memory():
    """Require that nothing in a test took more memory than is stated."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < BOUND


# --------------------------------------------------------------------------- bytes


@pytest.mark.parametrize("name", NAMES)
@examples(25)
@given(data=st.data())
def test_a_file_that_was_cut_off_gives_an_error_or_what_it_still_holds(
    name, files, data
):
    made = files(name)
    path = data.draw(st.sampled_from(made.paths))
    content = made.content[path]
    kept = data.draw(st.integers(0, len(content) - 1))
    with made.damaged(path, content[:kept]):
        _, errors = made.check(path, exact=True)
    assert errors or kept > 0


@pytest.mark.parametrize("name", NAMES)
@examples(40)
@given(data=st.data())
def test_flipped_bits_give_the_right_data_or_an_error(name, files, data):
    made = files(name)
    path = data.draw(st.sampled_from(made.paths))
    content = bytearray(made.content[path])
    # Half of them where the structure is: at the beginning, or at the end of a zip.
    ends = st.one_of(st.integers(0, 600), st.integers(-600, -1))
    anywhere = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(st.one_of(ends, anywhere), min_size=1, max_size=6)):
        content[place % len(content)] ^= 1 << data.draw(st.integers(0, 7))
    with made.damaged(path, bytes(content)):
        made.check(path, exact=name not in UNPROTECTED)


@pytest.mark.parametrize("name", NAMES)
@examples(20)
@given(data=st.data())
def test_overwritten_stretches_give_the_right_data_or_an_error(name, files, data):
    made = files(name)
    path = data.draw(st.sampled_from(made.paths))
    content = made.content[path]
    first = data.draw(st.integers(0, len(content) - 1))
    gone = data.draw(st.integers(0, 400))
    put = data.draw(
        st.one_of(
            st.binary(max_size=400),
            st.sampled_from([b"\x00" * 256, b"\xff" * 256, content[:256]]),
        )
    )
    with made.damaged(path, content[:first] + put + content[first + gone :]):
        made.check(path, exact=name not in UNPROTECTED)


# --------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", NAMES)
@examples(20)
@given(data=st.data())
def test_a_renamed_file_is_missing_and_nothing_else(name, files, data):
    made = files(name)
    path = data.draw(st.sampled_from(made.paths))
    other = data.draw(
        st.sampled_from(
            [
                f"{path.name}.part",
                f"copy of {path.name}",
                f"{path.stem} (1){path.suffix}",
                f".{path.name}",
                f"{path.name}~",
                f"x{path.name}",
            ]
        )
    )
    renamed = path.with_name(other)
    path.rename(renamed)
    try:
        made.check(path, exact=True)
    finally:
        renamed.rename(path)


# -------------------------------------------------------------------------- arrays

SHAPES = {
    "transposed": lambda array: array.T,
    "flat": lambda array: array.reshape(-1),
    "an axis more": lambda array: array[None],
    "an axis less": lambda array: array[0] if array.ndim else array,
    "empty": lambda array: array[..., :0] if array.ndim else array,
    "twice": lambda array: np.concatenate([array, array], -1) if array.ndim else array,
    "one short": lambda array: array[..., :-1] if array.ndim else array,
    "text": lambda array: np.full(array.shape, "many"),
    "complex": lambda array: array + 1j if array.dtype.kind in "fiu" else array,
    "infinite": lambda array: np.full(array.shape, np.inf),
    "huge": lambda array: np.full(array.shape, 1e300),
}
"""What leaves no array that could pass for the right one, or the same one."""

VALUES = {
    "NaN": lambda array: np.full(array.shape, np.nan),
    "single": lambda array: array.astype("f4") if array.dtype.kind == "f" else array,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
}
"""What a careful reader may accept, or refuse."""


def arrays_changed(content, change, data):
    """Return a file's content with one of its arrays changed, or None."""
    changes = (mat_changed, npz_changed, pickle_changed)
    for changed in changes:
        with contextlib.suppress(Exception):
            return changed(content, change, data)
    return None


def mat_changed(content, change, data):
    stored = scipy.io.loadmat(io.BytesIO(content))
    names = [name for name in stored if not name.startswith("__")]
    name = data.draw(st.sampled_from(names))
    if stored[name].dtype.names:  # a structure: one of its inner arrays, at random
        change_inside(stored[name], change, data)
    else:
        stored[name] = change(stored[name])
    file = io.BytesIO()
    scipy.io.savemat(file, {name: stored[name] for name in names})
    return file.getvalue()


def change_inside(value, change, data):
    while value.dtype.names or value.dtype == object:
        if value.dtype.names:
            field = data.draw(st.sampled_from(value.dtype.names))
            holder, place, value = value, (0, 0), value[0, 0][field]
            if not (value.dtype.names or value.dtype == object):
                holder[0, 0][field] = change(value)
        else:
            place = tuple(data.draw(st.integers(0, n - 1)) for n in value.shape)
            holder, value = value, value[place]
            if not (value.dtype.names or value.dtype == object):
                holder[place] = change(value)


def npz_changed(content, change, data):
    stored = dict(np.load(io.BytesIO(content), allow_pickle=False))
    name = data.draw(st.sampled_from(sorted(stored)))
    if stored[name].dtype.kind == "S" and stored[name].ndim == 0:
        inner = pickle_changed(stored[name].item(), change, data)
        stored[name] = np.array(inner)
    else:
        stored[name] = change(stored[name])
    file = io.BytesIO()
    np.savez(file, **stored)
    return file.getvalue()


def pickle_changed(content, change, data):
    stored = pickle.loads(content, encoding="latin1")
    key = data.draw(st.sampled_from(list(stored)))
    stored[key] = change(np.asarray(stored[key]))
    return pickle.dumps(stored, protocol=2)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "eegmat"])
@examples(10)
@given(data=st.data())
def test_arrays_of_another_shape_or_type_give_an_error(name, files, data):
    made = files(name)
    path = data.draw(st.sampled_from(made.paths))
    change = SHAPES[data.draw(st.sampled_from(sorted(SHAPES)))]
    content = arrays_changed(made.content[path], change, data)
    if content is None:
        return
    with made.damaged(path, content):
        made.check(path, exact=True)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "eegmat"])
@examples(4)
@given(data=st.data())
def test_arrays_of_other_values_never_change_what_trial_it_is(name, files, data):
    made = files(name)
    path = data.draw(st.sampled_from(made.paths))
    change = VALUES[data.draw(st.sampled_from(sorted(VALUES)))]
    content = arrays_changed(made.content[path], change, data)
    if content is None:
        return
    with made.damaged(path, content):
        made.check(path, exact=False)
