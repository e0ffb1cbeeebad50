"""What `coterie doctor` says, and how its checks are run: each bounded in time, together, told in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from coterie.errors import CoterieError
from coterie.texts import tr

POLL_S = 0.05
CHECK_S = 9.0  # no check takes longer; a whole diagnosis takes this and no more

Probe = Callable[[], Awaitable["Check"]]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One layer that was looked at. With `ok` false it stands in the way; `advice` may come with either.

    `mend`: the command of coterie that would change it, without `coterie`; empty where none does.
    """

    name: str
    ok: bool
    result: str
    advice: str = ""
    mend: str = ""

    def text(self) -> str:
        """For people: one line, and what to do on further ones."""
        lines = [f"{'ok' if self.ok else 'NO':<4}{self.name:<12}{self.result}"]
        lines += [f"{'':<16}-> {self.advice}"] if self.advice else []
        return "\n".join(lines)


class Healthy(msgspec.Struct, frozen=True):
    """Nothing stands in the way."""

    checks: int

    def text(self) -> str:
        """For people."""
        return tr("nothing stands in the way ({checks} checks)", checks=self.checks)


class Unhealthy(CoterieError):
    """Something stands in the way; the checks say what."""

    code = "unhealthy"


async def diagnose(checks: Sequence[tuple[str, Probe]]) -> AsyncIterator[Check | Healthy]:
    """Run all `checks` (name, probe) at once and give their results in order; last, `Healthy`.

    Raises:
        Unhealthy: one or more found something; after all have been given.
    """
    tasks = [asyncio.ensure_future(_bounded(name, probe)) for name, probe in checks]
    failed: list[str] = []
    try:
        for task in tasks:
            check = await task
            if not check.ok:
                failed.append(check.name)
            yield check
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failed:
        raise Unhealthy(tr("this stands in the way: {fromkeys}", fromkeys=", ".join(dict.fromkeys(failed))))
    yield Healthy(len(tasks))


async def holds(condition: Callable[[], bool], limit_s: float) -> bool:
    """Wait until `condition()`, at most `limit_s`; whether it holds."""
    until = asyncio.get_running_loop().time() + limit_s
    while not (is_so := condition()) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(POLL_S)
    return is_so


async def _bounded(name: str, probe: Probe) -> Check:
    try:
        async with asyncio.timeout(CHECK_S):
            return await probe()
    except TimeoutError:
        return Check(
            name=name,
            ok=False,
            result=tr("no result within {seconds:g} s", seconds=CHECK_S),
            advice=tr(
                "something there hangs; if it stays so, restart the node: `coterie down`, `coterie up`"
            ),
        )
    except (CoterieError, OSError) as error:
        return Check(name=name, ok=False, result=str(error))
