"""`domainemo doctor`: what is there, what is broken and why, and how it ends."""

import json
import sys

import pytest
from fixtures.eegmat import write_eegmat

from domainemo.cli import health, main

BROKEN = "raise OSError('libsomething.so.3: cannot open shared object file')"


@pytest.fixture
def doctor(monkeypatch, capsys, tmp_path):
    """Run it where the package asks for the libraries that are given."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("DOMAINEMO_DATA", "")
    monkeypatch.setenv("DOMAINEMO_CACHE", str(tmp_path / "kept"))
    monkeypatch.syspath_prepend(tmp_path)
    health._modules.cache_clear()

    def run(*words, wants=("numpy>=1",), code=0):
        monkeypatch.setattr(health.importlib.metadata, "requires", lambda _: [*wants])
        monkeypatch.setattr(sys, "argv", ["domainemo", "doctor", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr().out
        assert (ended.value.code or 0) == code, told
        return told

    yield run
    health._modules.cache_clear()


def install(folder, name, text, entry_points=""):
    """Write a library as pip would leave it."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(text, encoding="utf-8")
    about = folder / f"{module}-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Name: {name}\nVersion: 1.5\n", encoding="utf-8")
    (about / "top_level.txt").write_text(f"{module}\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(entry_points, encoding="utf-8")


def test_what_cannot_be_imported_is_named_with_its_reason(doctor, tmp_path):
    install(tmp_path, "broken-one", BROKEN)
    wants = ("numpy>=1", "broken-one", "no-such-thing>=1", "rich<1")
    told = doctor(wants=wants, code=2)
    assert "- broken-one: it cannot be imported: OSError: libsomething.so.3" in told
    assert "- no-such-thing: it is not installed" in told
    assert "- rich: it is version 1" in told and "expected <1" in told
    last = told.strip().splitlines()[-1]
    assert last == "Not all that is needed works: broken-one, no-such-thing, rich."
    assert "- numpy 2" in told or "- numpy 1" in told


def test_an_extra_that_is_not_installed_is_no_fault(doctor, tmp_path):
    wants = ("numpy", 'no-such-thing; extra == "cluster"', 'neither; extra == "test"')
    told = doctor(wants=wants)
    assert "- no-such-thing: not installed; pip install 'domainemo[cluster]'" in told
    assert "neither" not in told
    # Installed, and broken, it is one.
    install(tmp_path, "broken-two", BROKEN)
    doctor(wants=('broken-two; extra == "cluster"',), code=2)


def test_an_installed_plugin_that_fails_is_named(doctor, tmp_path):
    places = "[domainemo]\nmine = broken_three\n"
    install(tmp_path, "broken-three", "import nothing_like_it", places)
    told = doctor(code=2)
    assert "- mine (broken_three): ModuleNotFoundError: No module named" in told


def test_the_data_sets_below_the_root_are_found(doctor, tmp_path):
    root = tmp_path / "recordings"
    write_eegmat(root / "eegmat", range(2))
    (root / "my-lab").mkdir()
    (root / "my-lab" / "dataset.toml").touch()
    found = json.loads(doctor("--data-root", str(root), "--json"))
    sets = {each["name"]: each for each in found["datasets"]}
    files = [*root.rglob("*.edf")]
    size = sum(path.stat().st_size for path in files) / 1e6
    assert sets["eegmat"]["told"] == f"{len(files)} files, {size:.1f} MB"
    assert sets["eegmat"]["problem"] is None
    assert "DEAP" in sets["deap"]["problem"] or "deap" in sets["deap"]["problem"]
    assert str(root / "my-lab") in sets
    assert found["works"] and found["data_root"] == str(root)
    kept = tmp_path / "kept"
    assert found["storage"]["folder"] == str(kept) and found["storage"]["bytes"] == 0
    kept.mkdir()
    (kept / "entry").write_bytes(bytes(2_000_000))
    told = doctor("--data-root", str(root))
    assert f"- eegmat: {len(files)} files" in told and "not found: deap, " in told
    assert f"- {kept}: 2.0 MB" in told


def test_a_data_root_that_is_not_there_is_a_fault_of_the_data(doctor, tmp_path):
    told = doctor("--data-root", str(tmp_path / "nowhere"), code=3)
    assert "nowhere: there is no such folder" in told
    assert "no data root: name it" in doctor()
