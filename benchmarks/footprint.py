"""What copies of the repository weigh: seconds of an import, megabytes, lines.

    git worktree add ../before COMMIT
    python benchmarks/footprint.py before=../before now=.

Each name stands for a folder. The imports are timed in processes of their own, the
copies in turn, five times after one that is not counted; the medians are shown, on the
clock and of the processor. The first use is that of ``domainemo.run``, which loads
torch and the others. Libraries are those that ``pyproject.toml`` asks for, with what
they ask for, as they are installed where this runs; their files are added up. Lines of
code are those that hold any but for comments and docstrings. Prints a table in
Markdown.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import statistics
import subprocess
import sys
import tempfile
import tokenize
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

REPEATS = 5
IMPORT, USE = "import domainemo", "import domainemo; domainemo.run"
TIMED = """
import time
clock, processor = time.perf_counter(), time.process_time()
{code}
print(time.perf_counter() - clock, time.process_time() - processor)
"""


def seconds(folder: Path, code: str) -> tuple[float, float]:
    """Return how long a fresh process takes for `code`: clock, and processor.

    Parameters
    ----------
    folder : Path
        Of the copy whose package is imported.
    code : str
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [sys.executable, "-c", TIMED.format(code=code)],
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=True,
        )
    clock, processor = map(float, done.stdout.split())
    return clock, processor


def medians(folders: list[Path], code: str) -> list[tuple[float, float]]:
    """Return the medians of every copy, timed in turn."""
    found: list[list[tuple[float, float]]] = [[] for _ in folders]
    for _ in range(1 + REPEATS):
        for times, folder in zip(found, folders, strict=True):
            times.append(seconds(folder, code))
    return [
        (
            statistics.median(c for c, _ in each[1:]),
            statistics.median(p for _, p in each[1:]),
        )
        for each in found
    ]


def files_of(folder: Path) -> Iterator[Path]:
    """Yield the files of the package, those behind its links too."""
    for parent, folders, names in os.walk(folder / "domainemo", followlinks=True):
        folders[:] = [each for each in folders if each != "__pycache__"]
        yield from (Path(parent, name) for name in names)


def libraries(folder: Path) -> dict[str, int]:
    """Return the bytes of each library that a copy needs, and of what those need."""
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    left, found = list(project["dependencies"]), dict[str, int]()
    while left:
        wanted = Requirement(left.pop())
        name = wanted.name.lower().replace("_", "-").replace(".", "-")
        if name in found or (
            wanted.marker and not wanted.marker.evaluate({"extra": ""})
        ):
            continue
        installed = metadata.distribution(name)
        paths = [Path(str(each.locate())) for each in installed.files or ()]
        found[name] = sum(path.stat().st_size for path in paths if path.is_file())
        left += installed.requires or ()
    return found


def code_lines(text: str) -> int:
    """Return how many lines of a file hold code: no comments, no docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    told = set[int]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False):
            first = node.body[0]
            told.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT}
    empty |= {tokenize.DEDENT, tokenize.ENDMARKER}
    held = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in empty:
            held.update(range(token.start[0], token.end[0] + 1))
    return len(held - told)


def weighed(folder: Path) -> dict[str, str]:
    """Return what a copy weighs, in words, but for its seconds."""
    package = list(files_of(folder))
    code = [each.read_text("utf-8") for each in package if each.suffix == ".py"]
    tests = [each.read_text("utf-8") for each in (folder / "tests").rglob("*.py")]
    needed = libraries(folder)
    return {
        "package, MB": f"{sum(each.stat().st_size for each in package) / 1e6:.1f}",
        "libraries it needs": f"{len(needed)}",
        "their files, MB": f"{sum(needed.values()) / 1e6:,.0f}",
        "Python files": f"{len(code):,}",
        "lines": f"{sum(len(each.splitlines()) for each in code):,}",
        "lines of code": f"{sum(map(code_lines, code)):,}",
        "lines of tests": f"{sum(len(each.splitlines()) for each in tests):,}",
    }


def main() -> None:
    """Weigh the copies that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("copies", nargs="+", metavar="NAME=FOLDER")
    copies = dict(each.split("=", 1) for each in parser.parse_args().copies)
    folders = [Path(each).resolve() for each in copies.values()]
    rows: dict[str, list[str]] = {}
    for what, code in (("`import domainemo`", IMPORT), ("first use", USE)):
        times = medians(folders, code)
        rows[f"{what}, s"] = [f"{clock:.3f}" for clock, _ in times]
        rows[f"{what}, s of the processor"] = [f"{used:.3f}" for _, used in times]
    for each in map(weighed, folders):
        for what, value in each.items():
            rows.setdefault(what, []).append(value)
    print("| |", " | ".join(copies), "|")
    print("|---" * (1 + len(copies)) + "|")
    for what, values in rows.items():
        print(f"| {what} |", " | ".join(values), "|")


if __name__ == "__main__":
    main()
