"""The laboratory by hand: python -m tests.lab shell [KIND...] | matrix | alone [WAY...] | pair KIND KIND |
scenario NAME | office [SECONDS [SEED]] | line NAME... [--client ours|libtorrent|tcp] [--repeat N] [--write] |
swarm [--client ours|libtorrent|chain] [--case plain|killed|lossy|leaving] [--repeat N]. Needs root."""

import argparse
import os
import sys

from coterie.sim.isolation import enter_namespace
from tests.lab import alone, line_page, lines, matrix, nat, office, swarm, swarm_page
from tests.lab.conftest import lacking
from tests.lab.lab import Host, Lab
from tests.lab.remote import ROOT
from tests.lab.scenarios import SCENARIOS

SHELL_HELP = """\
You are on {first}. `on NAME COMMAND` runs a command on another computer. Leaving the shell ends the laboratory.
"""


def shell(kinds: list[str]) -> None:
    """A computer behind a router of each of `kinds` and a public one; a shell on the first."""
    with Lab() as lab:
        hosts = {f"{kind}-{n}": lab.home(kind, f"{kind}-{n}") for n, kind in enumerate(kinds, 1)}
        hosts["public"] = lab.public("public")
        for name, host in hosts.items():
            print(f"{name:<20} {host.ip:<16} {_outside(host)}")
        first = next(iter(hosts))
        print(SHELL_HELP.format(first=first))
        paths = "\n".join(f"{name}) n={host.namespace.path};;" for name, host in hosts.items())
        otherwise = '*) echo "no such computer: $1" >&2; return 2;;'
        function = f'case "$1" in\n{paths}\n{otherwise}\nesac\nshift; nsenter --net=$n "$@"'
        environment = {**os.environ, "BASH_FUNC_on%%": f"() {{ {function}\n}}", "PS1": f"lab {first}# "}
        hosts[first].popen("bash", "--norc", env=environment).wait()


def _outside(host: Host) -> str:
    return f"behind {host.cable.switch.namespace.name}" if host.cable else ""


def measure_swarm(arguments: list[str]) -> None:
    """Measure clients in cases; the page keeps the median of each."""
    parser = argparse.ArgumentParser("python -m tests.lab swarm")
    parser.add_argument("--client", choices=swarm.CLIENTS, action="append")
    parser.add_argument("--case", choices=swarm.CASES, action="append")
    parser.add_argument("--repeat", type=int, default=1)
    told = parser.parse_args(arguments)
    for case in told.case or swarm.CASES:
        for client in told.client or swarm.CLIENTS:
            if client == "chain" and case not in swarm.CHAIN_CASES:
                continue
            outcomes = [swarm.measure(client, case) for _ in range(told.repeat)]
            print(f"written to {swarm_page.write(outcomes).relative_to(ROOT)}", flush=True)


def measure_lines(arguments: list[str]) -> None:
    """Play lines, each several times; print each run and the median."""
    parser = argparse.ArgumentParser("python -m tests.lab line")
    parser.add_argument("name", choices=[*lines.CASES, lines.FAIR, lines.KILLED], nargs="+")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--client", choices=lines.MODULES, default=lines.OURS)
    parser.add_argument("--write", action="store_true")
    told = parser.parse_args(arguments)
    special = {lines.FAIR: lines.measure_fair, lines.KILLED: lines.measure_killed}
    for name in told.name:
        outcomes = []
        for _ in range(told.repeat):
            if name in special:
                print(special[name](), flush=True)
                continue
            outcomes.append(lines.measure(name, told.client))
            print(outcomes[-1].told(), flush=True)
        if outcomes:
            print(f"{name}: median of {len(outcomes)} {line_page.middle(outcomes):.2f} x", flush=True)
        if outcomes and told.write:
            print(f"written to {line_page.write(outcomes).relative_to(ROOT)}", flush=True)


def main(arguments: list[str]) -> int:
    """Run what `arguments` name."""
    if reason := lacking():
        sys.exit(reason)
    enter_namespace()
    match arguments:
        case ["matrix"]:
            rows = matrix.measure_all()
            print(matrix.table(rows))
            columns = alone.measure_all()
            print(alone.text(columns))
            print(f"written to {matrix.write_page(rows, alone.text(columns)).relative_to(ROOT)}")
            is_good = all(row.is_as_expected for row in rows) and alone.is_as_expected(columns)
            return 0 if is_good else 1
        case ["alone", *ways] if set(ways) <= set(alone.WAYS):
            columns = alone.measure_all(ways or tuple(alone.WAYS))
            print(alone.text(columns))
            return 0 if alone.is_as_expected(columns) else 1
        case ["pair", one, other] if {one, other} <= set(nat.KINDS):
            with matrix.meeting() as place:
                row = place.measure(one, other)
            print(matrix.table([row]))
            return 0 if row.is_as_expected else 1
        case ["scenario", name] if name in SCENARIOS:
            print("\n".join(SCENARIOS[name]()))
            return 0
        case ["office", *numbers] if all(number.isdecimal() for number in numbers):
            seconds, seed = [*map(int, numbers), *(int(office.DAY_S), 1)[len(numbers) :]]
            return 1 if office.day(seconds, seed) else 0
        case ["swarm", *rest]:
            measure_swarm(rest)
            return 0
        case ["line", *rest]:
            measure_lines(rest)
            return 0
        case ["shell", *kinds] if set(kinds) <= set(nat.KINDS):
            shell(kinds or [nat.PORT_RESTRICTED, nat.SYMMETRIC])
            return 0
        case _:
            sys.exit(f"{__doc__}\nKIND: {', '.join(nat.KINDS)}\nNAME: {', '.join(SCENARIOS)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
