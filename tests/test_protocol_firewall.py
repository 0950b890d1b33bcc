"""Noise in place of the tested labels changes no bit, whatever the protocol."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import domainemo as de
from domainemo.protocols.cross_session import CrossSession
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.protocols.leave_stimuli_out import LeaveStimuliOut
from domainemo.protocols.within_subject import WithinSubject
from domainemo.registry import entries, find
from domainemo.runs.checks import canonical
from domainemo.runs.folds import provenance
from domainemo.testing import FirstFold, with_random_target_labels
from domainemo.testing.firewall import SMALL_NETWORK
from domainemo.training.settings import Training

torch.set_num_threads(1)
PROTOCOLS = {
    "groups of subjects": CrossSubject(leave_out=2),
    "given subjects": CrossSubject(test=[1], validation=[2], train=[3, 4]),
    "pooled sessions": CrossSession(subjects="pooled", source="earlier"),
    "within a subject": WithinSubject(session="pooled"),
    "as published": WithinSubject(folds="published"),
    "as published, inductive": WithinSubject(folds="published", held_out=0.5),
    "unseen stimuli": LeaveStimuliOut(),
    "unseen stimuli, known subjects": LeaveStimuliOut(subjects="known", held_out=0.5),
}


ELSEWHERE = {
    "cross-dataset": "the_targets_labels_are_for_the_score_alone",
    "everyone": "",  # who trains is everybody: there is no target
    "newcomers": "labels_of_a_newcomer_are_left_behind",
    "online": "no_label_of_past_or_future_and_no_signal_of_the_future",
}
"""The protocols whose target is not one of the recordings that train."""


def test_no_protocol_is_forgotten():
    """A new one is either among those tried below, or names its own test."""
    here = {type(protocol) for protocol in PROTOCOLS.values()}
    for name in (entry.name for entry in entries("protocol")):
        assert (find("protocol", name) in here) != (name in ELSEWHERE), name
    for name, test in ELSEWHERE.items():
        file = Path(__file__).with_name(f"test_{name.replace('-', '_')}.py")
        assert not test or f"def test_{test}(" in file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data():
    """Recordings numbered like SEED: 15 trials, the same clips in every session."""
    made = de.Simulated(subjects=4, sessions=2, trials=15, windows=(2, 3)).load()
    made = made.take(canonical(made.inputs))
    inputs = dataclasses.replace(made.inputs, name="seed, simulated")
    return dataclasses.replace(made, inputs=inputs)


def trained(data, folder, protocol, baselines):
    de.run(
        data,
        protocol=FirstFold(protocol),
        adapter="uf-ama",
        validator="source-and-information",
        backbone=SMALL_NETWORK,
        baselines=baselines,
        training=Training(epochs=1, batch_size=8),
        device="cpu",
        output=folder,
    )
    found = {}
    for record in sorted(folder.rglob("record.json")):
        with np.load(record.with_name("predictions.npz")) as file:
            found[record.parent.name] = [file["probabilities"].tobytes()]
        weights = record.with_name("model.safetensors")
        if weights.exists():
            found[record.parent.name].append(weights.read_bytes())
    networks = [each for each in found.values() if len(each) == 2]
    assert len(networks) == 1 + baselines  # source only beside the adapter
    return found


@pytest.mark.parametrize("name", PROTOCOLS)
def test_tested_labels_leave_no_trace(data, tmp_path, name):
    protocol = PROTOCOLS[name]
    noisy = with_random_target_labels(data, protocol)
    fold = next(iter(protocol.split(provenance(data.inputs))))
    changed = np.flatnonzero(noisy.labels != data.labels)
    assert len(changed) and set(changed) <= {*fold.target, *fold.test}
    baselines = name == "given subjects"
    true = trained(data, tmp_path / "true", protocol, baselines)
    assert true == trained(noisy, tmp_path / "noise", protocol, baselines)
