"""Commands of the node itself, declared as those of the apps are; their service is the node."""

import contextlib
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from coterie.apps.command import Peer, Place, Resource, Values, Verbs, command
from coterie.home import Home
from coterie.settings import APP_SETTINGS, Config
from coterie.texts import tr, tr_count

if TYPE_CHECKING:
    from coterie.node import Node

PURPOSE = "This computer"
JobId = Annotated[str, Values("jobs", "id")]
PortName = Annotated[str, Values("services", "name")]
Key = Annotated[str, Values("config", "key")]
_EVERYBODY, _ANY = Place(""), Peer("")


class Identity(msgspec.Struct, frozen=True):
    """A peer id in its three forms: to copy, for screens, and to read aloud."""

    id: str
    short: str
    words: str

    def text(self) -> str:
        """The id, and the words in lines of six."""
        words = self.words.split()
        lines = [" ".join(words[start : start + 6]) for start in range(0, len(words), 6)]
        return "\n".join([self.id, *(f"  {line}" for line in lines)])


class Setting(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of config.toml. `until_restart`: what the running node uses instead, until its next start."""

    key: Key
    value: str | int | bool
    until_restart: str | int | bool | None = None

    def text(self) -> str:
        """As it stands in the file, and what is to be done before it acts."""
        said = f"{self.key} = {_in_words(self.value)}"
        if self.until_restart is None:
            return said
        return tr(
            "{said}\n  acts from the next start (coterie down, then coterie up); until then: {in_words}",
            said=said,
            in_words=_in_words(self.until_restart) or "empty",
        )


def _in_words(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@command(needs="running", returns="coterie.node_status:NodeStatus", title="How this computer is")
async def status(node: "Node") -> Any:
    """Show how the running node is."""
    return await _settled(node.status())


@command(
    needs="running",
    returns="coterie.services.local:PortLine",
    empty_text="No port is open for other programs here.",
    title="Ports for programs on this computer",
)
async def services(node: "Node") -> Any:
    """List the ports that this node serves to other programs on this computer, and for whom."""
    return await _settled(node.ports.lines())


@command(
    "name",
    path="services on",
    needs="running",
    returns="coterie.services.local:PortLine",
    title="Open a port again",
)
async def services_on(node: "Node", name: PortName) -> Any:
    """Open a port again that was switched off.

    name: As `coterie services` shows it.
    """
    return await node.ports.switch(name, is_on=True)


@command(
    "name",
    path="services off",
    needs="running",
    returns="coterie.services.local:PortLine",
    title="Close a port",
)
async def services_off(node: "Node", name: PortName) -> Any:
    """Close a port and its connections until it is switched on again.

    name: As `coterie services` shows it.
    """
    return await node.ports.switch(name, is_on=False)


@command(needs="running", returns="coterie.peer_line:PeerLine", purpose="The network", title="Who is there")
async def peers(node: "Node") -> Any:
    """Show who is there: connected computers, those on the local network, and others known."""
    return await _settled(node.peers())


@command(
    "peer",
    path="peers forget",
    needs="running",
    returns="coterie.control.forgetting:Forgotten",
    purpose="The network",
    title="Forget a computer",
)
async def peers_forget(node: "Node", peer: Peer) -> Any:
    """Forget a computer that was seen: its name, where it was, when.

    What is not heard of for 30 days leaves the list by itself. Who comes back is in it again.

    peer: Its name, or an id; a beginning will do.
    """
    from coterie.control.forgetting import forget

    return forget(node, peer)


@command(
    "peer",
    returns="coterie.control.doctor:Healthy",
    purpose="The network",
    title="Find out what stands in the way",
)
async def doctor(node: "Node", peer: Peer | None = None) -> Any:
    """Find out what stands in the way: of this node, or of connecting to one computer.

    Fails when something does, and says what to do about it.

    peer: A contact's name, or an id; a beginning will do.
    """
    from coterie.control.doctor import diagnose
    from coterie.control.doctor_node import node_checks
    from coterie.control.doctor_peer import find_peer, peer_checks

    checks = node_checks(node) if peer is None else peer_checks(node, find_peer(node, peer))
    async for item in diagnose(checks):
        yield item


@command(
    "place",
    returns="coterie.services.directory.results:PlaceLine",
    empty_text="Nothing is there for this computer. Where nobody is known: `coterie invite` makes another one known.",
    purpose="Share and get",
    title="What others offer",
)
async def ls(node: "Node", place: Place = _EVERYBODY) -> Any:
    """List who is known, what they offer to this computer (folders, services and more), and what is in it.

    place: Nothing for people, a name for what it offers, or a place like anna/photos/2024.
    """
    return await node.directory.look(place)


@command(
    needs="store",
    returns="coterie.control.permissions:ResourceLine",
    purpose="Permissions",
    title="What can be permitted",
)
async def resources(node: "Node") -> Any:
    """List what of this computer can be permitted, and which verbs it has: for `coterie grant` and `coterie may`."""
    from coterie.control.permissions import resource_lines

    return await _settled(resource_lines(node))


@command(
    needs="store", returns="coterie.access.people:Named", purpose="People", title="Whom something can be for"
)
async def people(node: "Node") -> Any:
    """List whom something can be for: people and their computers, circles, and words for many."""
    return await _settled(node.people.subjects())


@command(needs="store", title="The id of this computer")
async def id_(node: "Node") -> Identity:
    """Show this node's id, also as words to read aloud."""
    return Identity(str(node.peer_id), node.peer_id.short, node.peer_id.words)


@command(
    "peer",
    "verb",
    "resource",
    needs="store",
    returns="coterie.control.permissions:Answer",
    purpose="Permissions",
    title="May somebody do something?",
)
async def may(node: "Node", peer: Peer, verb: Verbs, resource: Resource) -> Any:
    """Say whether a computer may do something here, and why.

    peer: A name, or an id; a beginning will do.
    verb: What it may do there, like read.
    resource: What it is about: a kind and a name, like files/photos/2024 or protocol/chat.
    """
    from coterie.control.permissions import answer

    return await _settled(answer(node, peer, verb, resource))


@command(
    "peer",
    needs="store",
    returns="coterie.control.permissions:AuditLine",
    empty_text="Nothing was asked for yet.",
    purpose="Permissions",
    title="What others did here",
)
async def audit(node: "Node", peer: Peer = _ANY, *, refused: bool = False, limit: int = 50) -> Any:
    """Show what other computers used here and what they were refused, the newest last.

    peer: Only what this one did: a name, or an id.
    refused: Only refusals.
    limit: How many lines.
    """
    from coterie.control.permissions import audit_lines

    return await _settled(audit_lines(node, peer, refused=refused, limit=limit))


@command(needs="store", returns="coterie.services.jobs.service:JobLine", empty_text="No jobs.", title="Jobs")
async def jobs(node: "Node") -> Any:
    """Show the work of apps that lasts: what runs, what waits and for what, what has ended.

    Downloads are not among it: `coterie transfers` lists them.
    """
    return await _settled(node.jobs.lines())


@command(
    "job",
    path="jobs pause",
    needs="store",
    returns="coterie.services.jobs.service:JobLine",
    title="Pause a job",
)
async def jobs_pause(node: "Node", job: JobId) -> Any:
    """Stop a job until `jobs resume`; it goes on from what it kept.

    job: Its id, from `coterie jobs`.
    """
    return _wanted(node, job, "pause")


@command(
    "job",
    path="jobs resume",
    needs="store",
    returns="coterie.services.jobs.service:JobLine",
    title="Go on with a job",
)
async def jobs_resume(node: "Node", job: JobId) -> Any:
    """Go on with a job that was paused, or try one again that failed and waits.

    job: Its id, from `coterie jobs`.
    """
    return _wanted(node, job, "resume")


@command(
    "job",
    path="jobs cancel",
    needs="store",
    returns="coterie.services.jobs.service:JobLine",
    title="Cancel a job",
)
async def jobs_cancel(node: "Node", job: JobId) -> Any:
    """End a job for good.

    job: Its id, from `coterie jobs`.
    """
    return _wanted(node, job, "cancel")


@command(
    "job",
    path="jobs watch",
    needs="running",
    returns="coterie.services.jobs.service:JobLine",
    title="Watch a job",
)
async def jobs_watch(node: "Node", job: JobId) -> Any:
    """Show how a job goes on, until it stops running.

    job: Its id, from `coterie jobs`.
    """
    async with contextlib.aclosing(node.jobs.follow(job)) as steps:
        async for progress in steps:
            yield progress
    yield node.jobs.line(job)


def _wanted(node: "Node", job: JobId, verb: Any) -> Any:
    from coterie.services.jobs.core import Wanted

    node.jobs.handle(Wanted(job, verb))
    return node.jobs.line(job)


class Cleared(msgspec.Struct, frozen=True):
    """How many notices are gone."""

    count: int

    def text(self) -> str:
        """For people."""
        return tr_count("{number} notice cleared", "{number} notices cleared", self.count)


@command(
    needs="store", returns="coterie.services.tell.core:NoticeLine", empty_text="No notices.", title="Notices"
)
async def notices(node: "Node", *, follow: bool = False) -> Any:
    """Show what the apps of this node told its owner, the newest last.

    follow: Show also what they tell from now on, until this is stopped.
    """
    from coterie.services.tell.core import NoticeLine

    if not follow:
        yield [NoticeLine.of(notice) for notice in node.notices.all()]
        return
    async with contextlib.aclosing(node.notices.follow()) as told:
        async for notice in told:
            yield NoticeLine.of(notice)


@command("app", path="notices clear", needs="store", title="Clear notices")
async def notices_clear(node: "Node", app: str = "") -> Cleared:
    """Forget notices.

    app: Only those of this app.
    """
    return Cleared(node.notices.clear(app or None))


@command(needs="store", title="Settings")
async def config(node: "Node") -> list[Setting]:
    """Show the settings in config.toml, or get and set one."""
    now = Home.locate(node.home).config()
    own = [_setting(node, key, now) for key in now.__struct_fields__ if key != APP_SETTINGS]
    return own + [
        Setting(f"{APP_SETTINGS}.{app}.{key}", value)
        for app, s in now.app.items()
        for key, value in s.items()
    ]


@command("key", path="config get", needs="store", title="Show a setting")
async def config_get(node: "Node", key: Key) -> Setting:
    """Show one setting.

    key: Its name.
    """
    now = Home.locate(node.home).config()
    now.changed(key, str(getattr(now, key, "")))  # says which keys there are
    return _setting(node, key, now)


@command("key", "value", path="config set", needs="store", title="Change a setting")
async def config_set(node: "Node", key: Key, value: str) -> Setting:
    """Change one setting. A running node uses it from its next start, and says so.

    key: Its name.
    value: What it is set to.
    """
    home = Home.locate(node.home)
    changed = home.config().changed(key, value)
    changed.save(home.config_file)
    return _setting(node, key, changed)


class BrowserLine(msgspec.Struct, frozen=True):
    """A browser that may use the page; what it may do; since when, and when it was seen last, ISO 8601."""

    id: str
    name: str
    may: list[str]
    since: str
    last: str


BrowserName = Annotated[str, Values("browsers", "id")]


@command(needs="store", empty_text="No browser may use the page yet: coterie open", title="Browsers")
async def browsers(node: "Node") -> list[BrowserLine]:
    """List the browsers that may use the page of this computer."""
    return [_browser_line(browser) for browser in _browsers(node).all()]


@command("browser", path="browsers remove", needs="store", title="Remove a browser")
async def browsers_remove(node: "Node", browser: BrowserName) -> BrowserLine:
    """Take away the page from a browser, at once.

    browser: Its id or its name, from `coterie browsers`.
    """
    return _browser_line(_browsers(node).remove(browser))


def _browsers(node: "Node") -> Any:
    from coterie.control.browsers import Browsers

    return Browsers(Home.locate(node.home).browsers_file)


def _browser_line(browser: Any) -> BrowserLine:
    from coterie.moments import iso

    return BrowserLine(browser.id, browser.name, [*browser.rights], iso(browser.created), iso(browser.seen))


@command(needs="store", returns="coterie.content:Usage", title="Storage")
async def usage(node: "Node") -> Any:
    """Show how much room coterie takes on this disk."""
    return await _settled(node.usage())


@command(needs="store", returns="coterie.content:Collected", title="Clear what nothing needs")
async def gc(node: "Node") -> Any:
    """Remove stored content that nothing refers to any more."""
    return await _settled(node.collect_garbage())


def _setting(node: "Node", key: Key, written: Config) -> Setting:
    value, used = getattr(written, key), getattr(node.config, key)
    return Setting(key, value, None if node.is_offline or used == value else used)


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
