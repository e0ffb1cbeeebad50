"""Which folder is meant: by name, id or path among those of this computer, by person and name among those on offer."""

from collections.abc import Collection, Iterable

from coterie.access.people import People
from coterie.apps.folders.members import Members
from coterie.apps.folders.membership import FolderRecord
from coterie.apps.folders.store import FolderRow
from coterie.errors import NotFound, UsageError
from coterie.identity import PeerId
from coterie.texts import tr

PREVIEW = "preview"  # the state of a folder of which joining was shown, and not confirmed


def row_called(folders: Iterable[FolderRow], members: Members, text: str) -> FolderRow:
    """The folder of this computer with this name, id or path. Raises NotFound; UsageError: there are several."""
    rows = [row for row in folders if row.state != PREVIEW]
    alike = [row for row in rows if members.record(row.id).name.casefold() == text.casefold()]
    alike = alike or [row for row in rows if row.path == text or row.id.hex().startswith(text.lower() or "-")]
    if len(alike) > 1:
        raise UsageError(tr("there are several live folders '{text}': say the path", text=text))
    if not alike:
        raise NotFound(tr("no live folder '{text}' here: `coterie folders` lists them", text=text))
    return alike[0]


def offer_called(people: People, members: Members, here: Collection[bytes], text: str) -> FolderRecord:
    """The folder on offer that is not `here`, as NAME or PERSON/NAME. Errors as `row_called`."""
    who, slash, name = text.rpartition("/")
    found = [
        record
        for record, _ in members.offers()
        if record.id not in here and record.name.casefold() == name.casefold()
    ]
    if slash:
        computers = people.computers_of(people.find(who))
        found = [record for record in found if PeerId(record.owner) in computers]
    if len(found) > 1:
        called = ", ".join(f"{people.name_of(PeerId(r.owner))}/{r.name}" for r in found)
        raise UsageError(tr("there are several: say {called}", called=called))
    if not found:
        raise NotFound(
            tr(
                "nobody offers a live folder '{text}' now: `coterie folders` lists those that you may join",
                text=text,
            )
        )
    return found[0]
