"""Worker processes start from a script, from `-c`, and from standard input."""

import subprocess
import sys

import pytest

CODE = """
from domainemo.processes import process_pool

if __name__ == "__main__":
    with process_pool(1) as pool:
        print(pool.submit(abs, -3).result(), __name__)
"""


@pytest.mark.parametrize("how", ["file", "command", "standard input"])
def test_processes_start_wherever_the_code_comes_from(how, tmp_path):
    (tmp_path / "script.py").write_text(CODE)
    arguments = {"file": ["script.py"], "command": ["-c", CODE]}.get(how, ["-"])
    done = subprocess.run(
        [sys.executable, *arguments],
        input=CODE if how == "standard input" else "",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["3", "__main__"], done.stderr
