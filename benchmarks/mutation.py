"""Plants faults in the code, one at a time, and counts how many the tests find.

Run: python -m benchmarks.mutation [--sample 10] [--seed 0] [TARGET ...]   (needs `pip install '.[mutation]'`)

Every fault is planted in a copy of the checkout, and only the tests of its target run on it (`TARGETS`). The faults are
those of cosmic-ray 8.7. Its own runner starts a Python that imports PyTorch for each mutant; here a process that has
imported it already is forked. mutmut 3.8 imports the package before pytest does, which jaxtyping's checks of shapes
refuse; with its server of processes it works, but it mutates the bodies of functions alone, no constant of a module.
"""

import argparse
import contextlib
import difflib
import gc
import importlib
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks.mutants import Mutant, mutants_of

ROOT = Path(__file__).parents[1]
# What is mutated, and the tests that must find it: the quickest first, as a run ends at the first failure.
TARGETS: dict[str, list[str]] = {
    "vlm_ood/metrics": ["tests/metrics", "tests/test_ties.py"],
    "vlm_ood/calibration.py": ["tests/test_calibration.py", "tests/test_ties.py", "tests/test_records.py"],
    "vlm_ood/digests.py": ["tests/test_digests.py"],
    "vlm_ood/results.py": ["tests/test_results.py", "tests/test_ties.py", "tests/test_pipeline.py",
                           "tests/cli/test_score.py", "tests/test_records.py"],
    "vlm_ood/detectors": ["tests/test_digests.py", "tests/test_ties.py", "tests/detectors"],
    "vlm_ood/encoders/preprocessing.py": ["tests/encoders/test_preprocessing.py", "tests/encoders/test_contract.py"],
    "vlm_ood/encoders/outputs.py": ["tests/encoders/test_outputs.py", "tests/test_digests.py",
                                    "tests/encoders/test_contract.py"],
    "vlm_ood/io": ["tests/io", "tests/test_frozen.py", "tests/test_identity.py"],
    "vlm_ood/text": ["tests/text"],
    "vlm_ood/negatives/select.py": ["tests/negatives", "tests/test_ties.py"],
    "vlm_ood/clipn/losses.py": ["tests/clipn/test_losses.py", "tests/clipn/test_train.py", "tests/test_records.py"],
    "vlm_ood/client": ["tests/client"],
    "vlm_ood/report": ["tests/report", "tests/cli/test_score.py"],
    "service/security": ["tests/test_frozen.py", "tests/service/test_access.py", "tests/service/test_bodies.py",
                         "tests/service/security",
                         "tests/service/test_connections.py", "tests/service/test_app.py",
                         "tests/service/test_score.py"],
    "service/storage": ["tests/service/test_access.py", "tests/service/storage/test_blobs.py",
                        "tests/service/storage/test_banks.py", "tests/service/storage/test_failing_disks.py",
                        "tests/service/storage"],
}  # fmt: skip
# Imported once, before the forks; nothing of the project, which every fork imports as mutated.
HEAVY = ("torch", "torchvision", "open_clip", "transformers", "timm", "scipy.stats", "matplotlib.pyplot", "fastapi",
         "sqlalchemy", "httpx", "uvicorn", "hypothesis", "pytest", "schemathesis.pytest.plugin")  # fmt: skip
SLOWEST = 4.0  # how many times the time of the tests without a fault a mutant may take
LEAST_S = 30.0  # and at least so long


def main() -> None:
    """Print the score of each target, and the faults that no test found."""
    arguments = _arguments()
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}  # forks inherit no threads
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()  # or every fork's first collection walks, and so copies, all of it
    killed_of_all = tried = 0
    with tempfile.TemporaryDirectory(prefix="vlm-ood-mutation-") as folder:
        copy = Path(folder) / "checkout"
        _copy_checkout(copy)
        for target in arguments.targets or TARGETS:
            mutants = _sampled(copy, target, arguments.sample, arguments.seed)
            killed = _run_target(copy, target, mutants)
            killed_of_all, tried = killed_of_all + killed, tried + len(mutants)
    print(f"{'all':36} {killed_of_all:4} of {tried:4}  {killed_of_all / max(tried, 1):6.1%}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(TARGETS)}; all by default")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="that many faults of each target, drawn by the seed; all by default"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for target in arguments.targets:
        if target not in TARGETS:
            parser.error(f"no target {target!r}; there are {', '.join(TARGETS)}")
    return arguments


def _copy_checkout(copy: Path) -> None:
    """The files that git knows of, and the new ones that it doesn't ignore."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, capture_output=True, check=True).stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


def _sampled(copy: Path, target: str, sample: int | None, seed: int) -> list[Mutant]:
    root = copy / target
    files = [root] if root.is_file() else sorted(root.glob("*.py"))
    mutants = [each for path in files for each in mutants_of(str(path.relative_to(copy)), path.read_text("utf-8"))]
    if sample is None or sample >= len(mutants):
        return mutants
    return sorted(random.Random(seed).sample(mutants, sample), key=lambda mutant: (mutant.path, mutant.line))


def _run_target(copy: Path, target: str, mutants: list[Mutant]) -> int:
    """How many the tests found; prints the others."""
    start = time.monotonic()
    if _fails(copy, TARGETS[target], timeout=900):
        sys.exit(f"{target}: its tests fail without any fault\n{(copy.parent / 'output').read_text()[-3000:]}")
    timeout = max(LEAST_S, SLOWEST * (time.monotonic() - start))
    survivors = []
    for serial, mutant in enumerate(mutants, 1):
        path = copy / mutant.path
        original = path.read_text("utf-8")
        try:
            _write(path, mutant.source, serial)
            if not _fails(copy, TARGETS[target], timeout):
                survivors.append((mutant, original))
                _print_survivor(mutant, original)
        finally:
            _write(path, original, 0)
    killed = len(mutants) - len(survivors)
    print(f"{target:36} {killed:4} of {len(mutants):4}  {killed / max(len(mutants), 1):6.1%}", flush=True)
    return killed


def _write(path: Path, source: str, serial: int) -> None:
    """With a time of its own, which tells Python that what it compiled before is out of date."""
    path.write_text(source, encoding="utf-8")
    os.utime(path, (1_000_000_000 + serial, 1_000_000_000 + serial))


def _fails(copy: Path, tests: list[str], timeout: float) -> bool:
    """Whether the tests fail, or take longer, in a fork of this process."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(_test(copy, tests))
        except BaseException:  # whatever it is, this process never goes back into the parent's code
            traceback.print_exc()
            os._exit(1)
    waiting = os.pidfd_open(child)
    try:
        in_time, _, _ = select.select([waiting], [], [], timeout)
    finally:
        os.close(waiting)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # it, when it is late, and whatever it has left running
    _, status = os.waitpid(child, 0)
    return not in_time or os.waitstatus_to_exitcode(status) != 0


def _test(copy: Path, tests: list[str]) -> int:
    """Run them in the copy; pytest's exit status. It changes this process for good."""
    import pytest

    os.setpgid(0, 0)
    output = os.open(copy.parent / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    os.environ["PYTHONPATH"] = str(copy)
    sys.dont_write_bytecode = False  # what the fault leaves as it is is compiled once
    for name in [name for name in sys.modules if name.partition(".")[0] in ("benchmarks", "cosmic_ray")]:
        del sys.modules[name]
    return int(
        pytest.main(
            ["-q", "-x", "-m", "not slow", "--no-header", "-W", "ignore::pytest.PytestAssertRewriteWarning", *tests]
        )
    )


def _print_survivor(mutant: Mutant, original: str) -> None:
    changed = [line for line in difflib.ndiff(original.splitlines(), mutant.source.splitlines()) if line[0] in "-+"]
    print(f"survives: {mutant.path}:{mutant.line} {mutant.operator}", *changed, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
