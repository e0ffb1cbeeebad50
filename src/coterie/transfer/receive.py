"""The asking side's hands: checks what arrives and puts it on disk. Blocking; one thread at a time."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from coterie.content import Kind, Store
from coterie.content import manifest as m
from coterie.content.chosen import Chosen
from coterie.content.received import record_received
from coterie.content.swarm.events import Denied, NodeArrived, Skipped, Stored, Wrong
from coterie.content.writer import STAGED
from coterie.errors import CoterieError, NotFound, PeerError
from coterie.identity import PeerId
from coterie.texts import tr
from coterie.transfer import messages
from coterie.transfer.arrival import Arrival, written
from coterie.transfer.arriving import Answer, Finished, NodePlace, bytes_of
from coterie.transfer.discretion import Discretion
from coterie.transfer.got import Got, Written
from coterie.transfer.landing import Landing
from coterie.transfer.messages import ChunkUnavailable, NoManifest
from coterie.transfer.preparing import Preparer
from coterie.transfer.records import TransferRecord
from coterie.wire import Ticket

WRITTEN_AHEAD_MAX = 150_000  # files, listed in memory while they are brought to the disk: about 45 MB

Event = NodeArrived | Stored | Denied | Skipped | Wrong


class Receiver:
    """Everything of one download that touches the disk."""

    def __init__(
        self,
        ticket: Ticket,
        record: TransferRecord,
        *,
        store: Store,
        discretion: Discretion,
        arrival: Arrival,
    ) -> None:
        """The root has to describe exactly the files and bytes of the `record`, which were announced.

        Not asked for is what `store` knows and `discretion` lets be used, and what `arrival` has at the target.
        """
        self._store = store
        self._arrival = arrival
        self._mtime_ns = record.mtime_ns
        self._only = tuple(record.only)
        self._chosen = Chosen(record.only)
        self._landing = Landing(ticket, record, store=store, discretion=discretion, arrival=arrival)
        self._preparer = Preparer(
            self._landing, record, store=store, discretion=discretion, arrival=arrival, chosen=self._chosen
        )
        self.staged = self._landing.staged
        self._written: list[Written] | None = None  # what is staged, once it was looked at

    @property
    def files(self) -> int:
        """How many are whole."""
        return self._landing.files

    @property
    def done_bytes(self) -> int:
        """Of what is wanted, so many are on the disk."""
        return self._landing.done_bytes

    @property
    def fetched_bytes(self) -> int:
        """So many of these came from peers, in this run."""
        return self._landing.fetched_bytes

    @property
    def reused_bytes(self) -> int:
        """So many of these came from other files of this computer."""
        return self._preparer.reused_bytes

    @property
    def skipped_bytes(self) -> int:
        """Of files that are not wanted."""
        return self._preparer.skipped_bytes

    @property
    def has_kept(self) -> bool:
        """Whether something is at the target of which it is not known here whether all of it came."""
        return self._preparer.has_kept

    def root_place(self) -> NodePlace:
        """Where the root node belongs."""
        return NodePlace((), None)

    def store(self, peer: PeerId, answers: list[Answer]) -> list[Event]:
        """Check the answers of `peer` and write them. What is not what was asked for is the end of it: `Wrong`.

        The last chunks may be told as `Stored` by a later call only; one without answers tells all that came.

        Raises:
            PeerError: the content itself breaks a bound: no source has it better.
            StorageError: the disk.
        """
        landing = self._landing
        events: list[Event] = []
        count = 0 if answers else landing.settle(peer)
        for answer in answers:
            try:
                if answer.chunks:
                    count += landing.take(answer)
                    continue
                event = self._take_other(answer)
            except PeerError as error:
                wrong = Wrong(peer, str(error), error.close_code)
                return [*events, *_stored(peer, count + landing.settle(peer)), wrong]
            events += _stored(peer, count + landing.settle(peer))
            count = 0
            events.append(self._ready(answer, event) if isinstance(event, m.Node) else event)
        return events + _stored(peer, count)

    def room(self, peer: PeerId, size: int) -> memoryview | None:
        """Where the next chunks of `peer` may be put before `store` takes them, to save a copy; None: anywhere."""
        return self._landing.room(peer, size)

    def lose(self, place: NodePlace, index: int, reason: int) -> None:
        """A chunk cannot be had: nothing of its file is delivered."""
        self._landing.lose_chunk(place, index, reason)

    def finish(self, on_existing: str) -> Finished:
        """Links, times, then the final name; into what is there where the arrival may.

        Raises:
            NotFound: nothing of what was asked for can be had.
            TargetExists: something took the name meanwhile; what arrived is kept.
        """
        landing, left_out = self._landing, self._landing.left_out
        self.staged.flush()
        for gone, size in self._chosen.mistaken().items():
            if gone not in left_out.paths:
                landing.remove(gone, size)
        if self._only and not landing.files:
            self.discard()
            raise NotFound(tr("no file in it is like {only}", only=" or ".join(self._only)))
        if left_out.files and not landing.files:
            self.discard()
            raise left_out.error(landing.target.name, is_tree=landing.kind is Kind.TREE)
        arrival, staging = self._arrival, landing.staging
        if landing.kind is Kind.BLOB and (self.has_kept or not landing.is_staged()):
            path = landing.target  # it is there as it is to be
            staging.discard()
        else:
            into = arrival.into if arrival.may_merge else None
            looks = landing.kind is Kind.TREE and arrival.is_remembered and not arrival.may_merge
            path = staging.finish(
                keep_both=on_existing == "keep-both", into=into, meanwhile=self._look_ahead if looks else None
            )
            for parts, why in staging.refused:
                left_out.add(landing.label(parts), why)
        arrival.settle(path, (file.parts for file in self.staged.files(self._mtime_ns)))
        self.staged.lies_at(path)
        renamed = sorted([*landing.naming.renamed, *arrival.news.numbered])
        return Finished(path, sorted(left_out.listed), left_out.count, renamed, arrival.news)

    def remember(self, path: Path, got: Got) -> None:
        """After `finish`: note each file at `path` as it was written, for the next time that the same is `got`.

        Without this, all of them would look as if they had been changed here.
        """
        files, self._written = self._written, None
        self._arrival.remember(got, self._files_written(path) if files is None else files)

    def _look_ahead(self) -> None:
        """List what `remember` is to note, while the disk is busy: nobody but us changes what is staged."""
        staged = self._files_written(self._landing.staging.path / STAGED)
        with suppress(CoterieError):  # then it is looked at afterwards
            found = list(islice(staged, WRITTEN_AHEAD_MAX + 1))
            self._written = found if len(found) <= WRITTEN_AHEAD_MAX else None

    def _files_written(self, path: Path) -> Iterator[Written]:
        """Every file that came and is at `path`, as it is now."""
        left_out = self._landing.left_out
        failed = left_out.paths
        if not left_out.is_all_listed:  # nobody knows of each whether it came
            return
        for file, status in self.staged.files_at(path, self._mtime_ns):
            is_wanted = not file.parts or self._preparer.wants(file.parts)
            if is_wanted and not (failed and "/".join(file.parts) in failed):
                yield written(file, status)

    def index(self, path: Path, is_stopped: Callable[[], bool]) -> None:
        """After `finish`: make what lies at `path` known to the store, as far as it gets before it `is_stopped`."""
        record_received(self._store, self._landing.root, path, self.staged.names, is_stopped)

    def discard(self) -> None:
        """Remove what arrived."""
        self._landing.discard()

    def close(self) -> None:
        """Close files; what arrived stays for the next time."""
        with suppress(CoterieError):  # what the store does not take is fetched again
            self.staged.flush()
        self._landing.close()

    def _take_other(self, answer: Answer) -> Event | m.Node:
        """What is no chunk; of a node that came, the node. Raises `PeerError`: it is not what was asked for."""
        match answer.frame:
            case messages.Skipped(reason):
                return Skipped(answer.peer, elsewhere=reason == messages.Skip.ELSEWHERE)
            case ChunkUnavailable(reason):
                return Denied(answer.peer, reason)
            case NoManifest():
                return NodeArrived(answer.peer, answer.manifest, answer.place, None)
        data = bytes(bytes_of(answer.frame))
        node = m.decode(data, answer.manifest)
        child, landing = answer.place.child, self._landing
        if child is not None:
            m.check_child(child, node)
        elif m.kind_of(node) is not landing.kind:
            raise PeerError("a lying manifest: the ticket names another kind of thing")
        elif (found := m.totals(node)) != landing.totals:
            said = landing.totals
            raise PeerError(
                f"a lying manifest: {said[0]} files of {said[1]} bytes were announced, "
                f"and it describes {found[0]} of {found[1]}"
            )
        if answer.place.prepared is None:
            _ = landing.staging
            self.staged.keep(answer.manifest, data)
        return node

    def _ready(self, answer: Answer, node: m.Node) -> NodeArrived:
        """Ready the disk for a node that was checked, unless another peer brought it to the same place before."""
        place = answer.place
        if place.prepared is None:
            place.prepared = self._preparer.prepare(answer.manifest, place, node)
        return NodeArrived(answer.peer, answer.manifest, place, place.prepared)


def _stored(peer: PeerId, count: int) -> list[Event]:
    return [Stored(peer, count)] if count else []
