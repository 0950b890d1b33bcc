"""Memory that is freed in a block stays with the process, and goes back after it."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from domainemo.training.freed import freed_memory_kept

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def taken():  # pages that a step of a hundred tensors of a megabyte takes
    before = faults()
    for _ in range(2):
        kept = [torch.ones(2**18) for _ in range(100)]
        del kept
    return faults() - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

with freed_memory_kept():
    taken()
    print(taken())
    inside = resident()
print(inside - resident())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory"
)
def test_what_is_freed_is_kept_in_a_block_and_given_back_after_it():
    """The kernel counts the pages it hands out, and those that a process holds."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    pages, given_back = map(int, ran.stdout.split())
    assert pages < 2 * 100 * 2**20 / 4096 / 10
    assert given_back > 50 * 2**20
