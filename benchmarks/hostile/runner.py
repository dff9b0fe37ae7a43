"""Runs phases one after the other, each against a server that is idle and healthy when it begins."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.hostile.judge import Report, broken_bounds
from benchmarks.hostile.mounts import small
from benchmarks.hostile.observer import Observer
from benchmarks.hostile.phases import Needs, Outcome, Phase, SkippedError
from benchmarks.hostile.target import ATTACKER, VICTIMS, Target
from benchmarks.server import ROOT, Server, environment_of, ready, resident_mib

CROWD = "crowd"  # whose requests the mixed phase sends
KEYS = (ATTACKER, *VICTIMS, CROWD)
CALLS = """
import json, sys
from vlm_ood.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as ended:
        assert not ended.code
"""  # several calls of the command line in one process, which takes seconds to import
RECOVERY_S = 20.0
STALE_MIB = 512.0  # a server that has kept more of a phase is not used for the next
LOADED_S = 300.0
STARTS = 2  # an old version whose warm-up was slow refuses valid requests until it is started again


@dataclass
class Runner:
    """Runs phases against servers of its own.

    Args:
        encoder: what the servers serve.
        tree: the folder whose `service` is run.
        requests: of the mixed phase.
        share: of harmful requests among them.
        tell: is told what happens.
        logs: a file for what the servers log.
    """

    encoder: str
    tree: Path = ROOT
    requests: int = 10_000
    share: float = 0.05
    tell: Callable[[str], None] = print
    logs: Path | None = None
    _folder: Path = field(init=False)
    _tokens: dict[str, str] = field(init=False)
    _target: Target | None = None
    _needs: Needs = field(default_factory=Needs)
    _idle_mib: float = 0.0

    def run(self, phases: list[Phase]) -> Iterator[Report]:
        """The reports, in order, each when its phase is over."""
        with tempfile.TemporaryDirectory() as folder:
            self._folder = Path(folder)
            self._tokens = make_keys(self._folder / "keys", self.tree)
            try:
                for number, phase in enumerate(phases, 1):
                    self.tell(f"[{number}/{len(phases)}] {phase.name}")
                    started = time.perf_counter()
                    report = replace(self._one(phase), seconds=time.perf_counter() - started)
                    self.tell("    " + ("; ".join(report.broken) or report.skipped or "held"))
                    yield report
            finally:
                self._end()

    def _one(self, phase: Phase) -> Report:
        empty = Report(phase.name, phase.does, phase.bounds, Outcome(Counter()))
        try:
            mib = phase.needs.disk_mib
            with small(self._folder / "disk", mib) if mib else nullcontext():
                return asyncio.run(self._attacked(phase))
        except SkippedError as skipped:
            return replace(empty, skipped=str(skipped))
        except Exception as error:  # the phases after it shall be run
            self._end()
            return replace(empty, broken=(f"the phase failed: {type(error).__name__} {error}".strip(),))

    async def _attacked(self, phase: Phase) -> Report:
        target = await self._target_for(phase.needs)
        observer = Observer(target.server.port, target.server.process.pid, self._tokens)
        target.server.started = observer.follow
        try:
            await observer.start()
            await asyncio.sleep(1)
            outcome = await self._outcome(phase, target)
            recovered_s = await target.seconds_until_served(RECOVERY_S)
            observed = await observer.stop()
        finally:
            observer.abandon()
        broken = broken_bounds(phase.bounds, outcome, observed, self._idle_mib, recovered_s)
        if phase.needs.fresh or phase.needs.disk_mib or recovered_s > RECOVERY_S or self._grown() > STALE_MIB:
            self._end()
        return Report(phase.name, phase.does, phase.bounds, outcome, observed, self._idle_mib, recovered_s, broken)

    async def _outcome(self, phase: Phase, target: Target) -> Outcome:
        try:
            async with asyncio.timeout(phase.limit_s):
                return await phase.attack(target)
        except TimeoutError:
            return Outcome(Counter({"hang": 1}), (f"not over after {phase.limit_s:g} s",))

    async def _target_for(self, needs: Needs) -> Target:
        """The server of the phase before if it fits and is well, else a new one."""
        if self._target is not None and not needs.fresh and needs == self._needs and await self._target.served():
            return self._target
        for _ in range(STARTS - 1):
            with suppress(TimeoutError):
                return await self._started(needs)
        return await self._started(needs)

    async def _started(self, needs: Needs) -> Target:
        """A new server that serves both victims.

        Raises:
            TimeoutError: it does not in time.
        """
        self._end()
        data = Path(tempfile.mkdtemp(dir=self._folder)) if needs.disk_mib is None else self._folder / "disk"
        shutil.copytree(self._folder / "keys", data, dirs_exist_ok=True)
        settings = {"VLM_OOD_HOST": "0.0.0.0", **needs.settings}  # noqa: S104 - the attacker is no client of loopback
        server = Server(self.encoder, data, settings, self.tree, needs.files, self.logs)
        self._needs = needs
        self._target = Target(server, self._tokens, self.requests, self.share)
        async with asyncio.timeout(LOADED_S):
            await ready(server.url)
            while not all([await self._target.served(tenant) for tenant in VICTIMS]):
                await asyncio.sleep(0.5)
        self._idle_mib = sum(resident_mib(server.process.pid))
        return self._target

    def _grown(self) -> float:
        """MiB by which the server's processes are larger than they were when it was idle."""
        return sum(resident_mib(self._target.server.process.pid)) - self._idle_mib if self._target else 0.0

    def _end(self) -> None:
        if self._target is not None:
            self._target.server.kill()
            self._target = None


def make_keys(data: Path, tree: Path) -> dict[str, str]:
    """A key per tenant in a new database; the crowd's key has no limit that a benchmark reaches."""
    calls = []
    for tenant in KEYS:
        call = ["keys", "create", "--tenant", tenant, "--data", str(data), "--access", "score", "--access", "manage"]
        calls.append([*call, "--images-per-minute", "1000000"] if tenant == CROWD else call)
    command = [sys.executable, "-c", CALLS, json.dumps(calls)]
    made = subprocess.run(command, cwd=tree, env=environment_of(tree), check=True, capture_output=True, text=True)
    return dict(zip(KEYS, made.stdout.split(), strict=True))
