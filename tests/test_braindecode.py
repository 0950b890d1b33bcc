"""The page on braindecode's networks runs as it stands, where braindecode is there."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import domainemo as de
from domainemo import registry
from domainemo.errors import ConfigurationError

# The library announces what it will drop, of its own defaults and of MNE's.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning"
)

PAGE = Path(__file__).parents[1] / "docs" / "braindecode.md"


def stand_in():
    """Return what braindecode imports of torchaudio, which these networks never call.

    Beside a torch for CPUs, the torchaudio that pip finds may be one for CUDA.
    """
    whole = types.ModuleType("torchaudio")
    for name, held in {
        "functional": ("fftconvolve", "filtfilt", "lfilter"),
        "transforms": ("Resample", "Spectrogram"),
    }.items():
        part = types.ModuleType(f"torchaudio.{name}")
        for each in held:
            setattr(part, each, torch.nn.Identity)
        setattr(whole, name, part)
        yield part.__name__, part
    yield whole.__name__, whole


@pytest.fixture(scope="module")
def page():
    """Return what the page's blocks define; what they print is printed."""
    pytest.importorskip("mne")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_classes", dict(registry._classes))
        try:
            import torchaudio  # noqa: F401
        except (ImportError, OSError):
            for name, module in stand_in():
                patch.setitem(sys.modules, name, module)
        pytest.importorskip("braindecode.models")
        module = types.ModuleType("page_of_braindecode")
        patch.setitem(sys.modules, module.__name__, module)
        text = PAGE.read_text(encoding="utf-8")
        for block in re.findall(
            r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE
        ):
            exec(compile(block, str(PAGE), "exec"), vars(module))
        yield module


def batch_of(data):
    """Return the first windows as a backbone is shown them."""
    eeg = torch.from_numpy(data.inputs.signals["eeg"][:5])[:, None]
    return {"eeg": eeg}, {"eeg": torch.ones(5, 1, dtype=torch.bool)}


def test_eegnet_reads_the_samples_and_trains(page):
    assert page.data.inputs.signals["eeg"].shape == (3 * 6 * 3, 4, 400)
    assert {"uf-ama"} <= set(page.results.table["method"])
    torch.manual_seed(0)
    backbone = page.EEGNetBackbone(page.data.inputs.modalities).eval()
    signals, masks = batch_of(page.data)
    with torch.no_grad():
        found = backbone(signals, masks)["eeg"]
        # Its own classifier, put on the embedding, gives what the network itself gives.
        network = backbone.network
        assert not any(it.requires_grad for it in network.final_layer.parameters())
        inside = found.reshape(5, 16, 1, -1)
        torch.testing.assert_close(
            network.final_layer(inside), network(signals["eeg"][:, 0])
        )


def test_a_foundation_model_starts_from_the_weights_of_a_file(page, tmp_path):
    modalities = page.data.inputs.modalities
    torch.manual_seed(1)
    saved = page.Labram(400, 7, n_chans=4, num_layers=1)  # of another task's classes
    save_file(saved.state_dict(), tmp_path / "model.safetensors")
    path = str(tmp_path / "model.safetensors")
    backbone = page.LabramBackbone(modalities, weights=path, depth=1).eval()
    signals, masks = batch_of(page.data)
    names = ["FP1", "FP2", "T7", "T8"]
    with torch.no_grad():
        found = backbone(signals, masks)["eeg"]
        saved.final_layer = torch.nn.Identity()
        expected = saved.eval()(signals["eeg"][:, 0] / 100, ch_names=names)
    torch.testing.assert_close(found, expected)
    assert np.isfinite(found.numpy()).all()
    with pytest.raises(ConfigurationError, match="is of another network"):
        page.LabramBackbone(modalities, weights=path, depth=2)


def test_what_is_trained_at_one_rate_is_not_shown_another(page):
    halved = page.raw.copy().resample(100, verbose="error")
    slow = de.from_raw(halved, subject="kim", feature="raw", window=4.0)
    assert slow.inputs.signals["eeg"].shape[1:] == (4, 400)
    with pytest.raises(de.DataError, match="features"):
        de.join(page.data, slow)
