"""Runs scenarios, all when none is named: `python -m tests.scenarios [NAME ...] [--seed N] [--small] [--no-page]`.

The full size is the default and writes `docs/scenarios/NAME.md`. Several run side by side, one process each,
the longest first; what measures real time runs alone, before them.
"""

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from coterie.errors import CoterieError
from tests.scenarios.frame import ClaimFailed, Scenario, scenarios, shown

SIDE_BY_SIDE = 2  # processes; the machine this is tuned for has two cores


def main() -> int:
    """0 when all claims hold."""
    known = scenarios()
    options = _options(list(known))
    names = options.names or list(known)
    if len(names) == 1:
        return _run_here(known[names[0]], options)
    alone = [name for name in names if known[name].is_alone]
    beside = sorted((n for n in names if n not in alone), key=lambda name: -known[name].full_cpu_s)
    ordered = alone + beside
    began = time.monotonic()
    codes = [_run_apart(name, options) for name in alone]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        codes += pool.map(lambda name: _run_apart(name, options), beside)
    failed = [name for name, code in zip(ordered, codes, strict=True) if code]
    print(
        f"{len(names)} scenarios in {time.monotonic() - began:.0f} s; failed: {', '.join(failed) or 'none'}"
    )
    return 1 if failed else 0


def _options(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME", help=", ".join(names))
    parser.add_argument("--seed", type=int, default=None)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", dest="size", action="store_const", const="small", default="full")
    size.add_argument("--full", dest="size", action="store_const", const="full")
    parser.add_argument("--no-page", dest="page", action="store_false", help="do not write the page")
    return parser.parse_args()


def _run_here(scenario: Scenario, options: argparse.Namespace) -> int:
    began = time.monotonic()
    try:
        report = scenario.execute(options.size, options.seed)
    except CoterieError as error:
        error.add_note(f"replay with: {scenario.command(options.size, _seed(scenario, options))}")
        raise
    for claim in report.claims:
        print(f"  {'ok  ' if claim.holds else 'FAIL'} {claim.what}: {shown(claim.value)}  {claim.goal}")
    print("\n\n".join(report.sections))
    print(
        f"{scenario.name}: {report.events:,} events, {report.cpu_s:.1f} s of one core, "
        f"{time.monotonic() - began:.1f} s"
    )
    if options.size == "full" and options.page:
        print(f"wrote {scenario.write(report, options.seed)}")
    try:
        scenario.check(report, options.size, options.seed)
    except ClaimFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run_apart(name: str, options: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "tests.scenarios", name, f"--{options.size}"]
    if options.seed is not None:
        command += ["--seed", str(options.seed)]
    if not options.page:
        command.append("--no-page")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(f"== {name}\n{done.stdout}", flush=True)
    return done.returncode


def _seed(scenario: Scenario, options: argparse.Namespace) -> int:
    return scenario.seed if options.seed is None else int(options.seed)


if __name__ == "__main__":
    sys.exit(main())
