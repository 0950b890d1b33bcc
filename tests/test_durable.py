"""Files that outlast a power cut: whole or not at all, recorded, locked, explained."""

import errno
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import torch

from domainemo import Simulated, Training, files, tune
from domainemo.errors import ConfigurationError, DataError, DomainemoWarning
from domainemo.files.integrity import _digest_of
from domainemo.studies import search
from domainemo.studies.storage import open_storage
from domainemo.training.checkpoint import Checkpoint

CPU = torch.device("cpu")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def small_disk(limit):
    """Let no file grow beyond a length, as a quota would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ------------------------------------------------------------------------- writing


def test_a_file_appears_whole_and_nothing_else_does(tmp_path):
    files.write(tmp_path / "new" / "a.txt", "ä\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "ä\n".encode()
    assert names(tmp_path / "new") == ["a.txt"]


def test_everything_is_flushed_before_its_name_is(tmp_path, monkeypatch):
    """The file before the rename, its folder after it."""
    steps, fsync, replace = [], os.fsync, Path.replace

    def noted(descriptor):
        steps.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def renamed(path, target):
        steps.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", renamed)
    with files.writing(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "inner.txt").write_text("1")
    assert steps == ["inner.txt", partial.name, "rename", tmp_path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path):
    path = tmp_path / "results.csv"
    files.write(path, "old")
    with (
        small_disk(10),
        pytest.raises(ConfigurationError, match=r"results\.csv: could not be written"),
    ):
        files.write(path, "x" * 1000)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["results.csv"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EDQUOT, "Make room"),
        (errno.EROFS, "you may write to"),
        (errno.EACCES, "you may write to"),
        (errno.ENAMETOOLONG, "shorter"),
        (errno.EIO, "sound"),
    ],
)
def test_what_to_do_depends_on_what_went_wrong(tmp_path, monkeypatch, number, said):
    def fail(path, content):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ConfigurationError, match=said) as raised:
        files.write(tmp_path / "a.txt", "1")
    assert "a.txt" in str(raised.value) and os.strerror(number) in str(raised.value)
    assert names(tmp_path) == []


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path):
    kill = (
        "import os, sys; from pathlib import Path; from domainemo import files\n"
        "with files.writing(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os._exit(9)"
    )
    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", kill, path], check=False)
    (left,) = names(tmp_path)
    assert files.is_partial(tmp_path / left)
    files.write(path, "whole")
    assert names(tmp_path) == ["a.txt"]


def test_a_writer_that_lives_is_left_alone(tmp_path):
    with files.writing(tmp_path / "a.txt") as partial:
        partial.write_text("first")
        files.write(tmp_path / "a.txt", "second")
        assert partial.exists()
    assert (tmp_path / "a.txt").read_text() == "first"


# --------------------------------------------------------------------------- locks


def test_a_lock_is_one_process_s_and_goes_with_it(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; from domainemo import files\n"
        "with files.lock(Path(sys.argv[1]), wait=False) as held:\n"
        "    print(held, flush=True); time.sleep(600)"
    )
    path = tmp_path / ".lock"
    command = [sys.executable, "-c", hold, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"True\n"
        with files.lock(path, wait=False) as held:
            assert not held
        other.kill()
    with files.lock(path, wait=False) as held:
        assert held


def test_a_lock_is_free_at_its_block_s_end_however_that_comes(tmp_path):
    """Though something still knows it; and who did not get it releases nothing."""
    path = tmp_path / ".lock"
    kept = files.lock(path, wait=True)
    with pytest.raises(ZeroDivisionError), kept as held:
        assert held
        with files.lock(path, wait=False) as second:
            assert not second
        with files.lock(path, wait=False) as third:
            assert not third
        1 / 0  # noqa: B018
    with files.lock(path, wait=False) as held:
        assert held


def test_a_folder_in_the_place_of_a_lock_is_named(tmp_path):
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(ConfigurationError, match=r"\.lock: could not.*it is a folder"),
        files.lock(tmp_path / ".lock", wait=False),
    ):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="has locks of another kind")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
@pytest.mark.parametrize("wait", [False, True])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, number, wait):
    """And is not mistaken for another process, nor for a place that is one's own."""
    import fcntl

    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(ConfigurationError, match="network drives") as raised,
        files.lock(tmp_path / ".lock", wait=wait),
    ):
        pass
    assert str(raised.value).startswith(f"{tmp_path / '.lock'}: could not be locked")
    assert os.strerror(number) in str(raised.value)


# ------------------------------------------------------------------------- records


@pytest.fixture
def recorded(tmp_path):
    (tmp_path / "a.txt").write_text("some text")
    (tmp_path / "b.txt").write_text("more")
    files.record(tmp_path)
    return tmp_path


@pytest.mark.parametrize("content", [b"", b"some", b"some tex!", b"more", None])
def test_what_is_not_as_recorded_is_named(recorded, content):
    assert files.find_damage(recorded) is None
    path = recorded / "a.txt"
    path.write_bytes(content) if content is not None else path.unlink()
    assert "a.txt" in str(files.find_damage(recorded))
    with pytest.raises(DataError, match=r"a\.txt: found"):
        files.read(path, bytes.decode)
    assert files.read(recorded / "b.txt", bytes.decode) == "more"


@pytest.mark.parametrize("place", range(0, 400, 23))
def test_a_record_that_lost_a_bit_is_named_or_says_the_same(recorded, place):
    path = recorded / files.RECORD
    before = files.records(recorded)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1
    path.write_bytes(content)
    try:
        assert files.records(recorded) == before
    except DataError as error:
        assert files.RECORD in str(error)


def test_what_cannot_be_read_is_named_where_nothing_was_recorded(tmp_path):
    """Folders of earlier versions: read with a note, and no format's own error."""
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK")

    def parse(content):
        raise EOFError

    with (
        pytest.warns(DomainemoWarning, match="cannot be checked"),
        pytest.raises(DataError, match=r"a\.npz: found 2 bytes that cannot be read"),
    ):
        files.read(path, parse)


def test_killed_between_record_and_file_it_is_made_anew(recorded):
    path = recorded / "a.txt"
    files.write_recorded(path, "new")
    path.write_text("some text")  # as if only the record had been written
    assert files.find_damage(recorded) is not None
    files.write_recorded(path, "new")
    assert files.find_damage(recorded) is None and path.read_text() == "new"


def test_damaged_files_are_set_aside_one_beside_the_other(recorded):
    for aside in ("a.txt.damaged", "a.txt.damaged-1"):
        path = recorded / "a.txt"
        path.write_text("other")
        with pytest.warns(DomainemoWarning, match=f"set aside as {aside} and made"):
            files.set_aside(path, f"{path}: found another.")
        assert not path.exists() and (recorded / aside).read_text() == "other"


def lead_nowhere(path):
    path.symlink_to(path.with_name("nothing"))


def lead_to_itself(path):
    path.symlink_to(path)


def lead_elsewhere(path):
    other = path.parent.with_name("other.json")
    other.write_text("{}")
    path.symlink_to(other)


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lead_nowhere, lead_to_itself, lead_elsewhere]
)
def test_a_record_is_a_file_of_its_folder(recorded, make):
    """A pipe would be waited for."""
    path = recorded / files.RECORD
    path.unlink()
    make(path)
    assert files.RECORD in str(files.find_damage(recorded))
    with pytest.warns(DomainemoWarning, match="made anew"):
        files.set_aside(path, "No record.")
    files.record(recorded)
    assert files.find_damage(recorded) is None


FACTS = {"bytes": 1, "sha256": "0"}


@pytest.mark.parametrize(
    "described",
    [
        [],
        ["a.txt"],
        {"a.txt": 1},
        {"a.txt": {**FACTS, "more": 1}},
        {"../outside": FACTS},
        {"/etc/passwd": FACTS},
        {"a\0b": FACTS},
        {"": FACTS},
        {"..": FACTS},
    ],
    ids=str,
)
def test_a_record_speaks_of_files_of_its_folder_alone(recorded, described):
    """Whoever changes it can make its own hash right."""
    content = {"files": described, "sha256": _digest_of(described)}
    (recorded / files.RECORD).write_text(json.dumps(content))
    with pytest.raises(DataError, match=files.RECORD):
        files.records(recorded)


def test_a_record_has_a_bound(recorded):
    with (recorded / files.RECORD).open("r+b") as file:
        file.truncate(2**40)  # takes no room on the disk
    assert files.RECORD in str(files.find_damage(recorded))


def test_a_lock_makes_no_file_elsewhere(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(ConfigurationError, match="link to another place"),
        files.lock(tmp_path / ".lock", wait=False),
    ):
        pass
    assert names(tmp_path) == [".lock"]


def test_errors_of_what_nobody_recorded_name_the_folder(recorded):
    with pytest.raises(KeyError), files.doubted(recorded):
        raise KeyError("x")
    (recorded / files.RECORD).unlink()
    with (
        pytest.raises(DataError, match=r"do not fit together \(KeyError: 'x'\)"),
        files.doubted(recorded),
    ):
        raise KeyError("x")


# --------------------------------------------------------------------- checkpoints


def damage(path, other):
    content = path.read_bytes()
    middle = len(content) // 2
    yield b""
    yield content[:-7]
    yield content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    yield other.read_bytes()


def test_a_damaged_or_foreign_checkpoint_is_set_aside(tmp_path):
    kept = {"history": [1.0], "weights": torch.arange(5.0)}
    other = Checkpoint(tmp_path / "other.pt", lambda: "another training")
    other.save(kept)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", lambda: "this training")
    assert checkpoint.load(CPU) is None
    checkpoint.save(kept)
    loaded = checkpoint.load(CPU)
    assert torch.equal(loaded["weights"], kept["weights"]) and loaded.keys() == {*kept}
    for content in damage(checkpoint.path, other.path):
        checkpoint.path.write_bytes(content)
        with pytest.warns(DomainemoWarning, match=r"checkpoint\.pt is set aside"):
            assert checkpoint.load(CPU) is None
        assert not checkpoint.path.exists()


# ------------------------------------------------------------------ a study's storage


def searched(folder):
    data = Simulated(subjects=5, sessions=1, trials=3, windows=(3, 5)).load()
    return tune(
        data,
        backbone="concatenation-mlp",
        adapter="marginal",
        options={"backbone.width": 4, "backbone.hidden": [4]},
        training=Training(epochs=1, batch_size=16),
        candidates=2,
        sampler="random",
        pruner="none",
        development=3,
        device="cpu",
        final=False,
        output=folder,
    )


@pytest.mark.parametrize("begun", [False, True])
def test_a_full_disk_under_a_study_is_named_and_loses_nothing(
    tmp_path, monkeypatch, begun
):
    """While the storage is made, and while candidates are written to it."""
    undisturbed = searched(tmp_path / "undisturbed").candidates
    place, room = tmp_path / "study", 10_000
    if begun:
        monkeypatch.setattr(search, "work", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            searched(place)
        monkeypatch.undo()
        room = (place / "study.db").stat().st_size // 2
    with (
        small_disk(room),
        pytest.raises(ConfigurationError, match=r"study\.db: .*could not be") as raised,
    ):
        searched(place)
    assert raised.value.exit_code == 2 and "disk has room" in str(raised.value)
    again = searched(place).candidates
    done = again[again["state"] == "complete"]  # beside one that was cut off
    assert done["value"].tolist() == undisturbed["value"].tolist()
    assert len(again) <= 2 + begun


def test_a_full_disk_under_a_journal_is_named_and_loses_nothing(tmp_path):
    path = tmp_path / "study.journal"
    study = optuna.create_study(storage=open_storage(str(path)), study_name="a")
    study.set_user_attr("known", 1)
    with (
        small_disk(path.stat().st_size + 10),
        pytest.raises(ConfigurationError, match=r"journal: could not be written"),
    ):
        study.set_user_attr("lost", 2)
    study.set_user_attr("later", 3)
    back = optuna.load_study(storage=open_storage(str(path)), study_name="a")
    assert back.user_attrs == {"known": 1, "later": 3}
