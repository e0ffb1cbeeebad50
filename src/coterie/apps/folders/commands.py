"""The commands of `folders`: the command line and the HTTP API are rendered from these."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from coterie.apps.command import Choice, Person, Place, Size, Values, command
from coterie.apps.folders.results import (
    ChoiceLine,
    ConflictLine,
    EntryLine,
    EventLine,
    FolderLine,
    FolderMade,
    FolderSaid,
    IgnoredLine,
    VersionLine,
)

if TYPE_CHECKING:
    from coterie.apps.folders.service import FoldersService

PURPOSE = "Share and get"

Folder = Annotated[str, Values("folders", "name")]
Offered = Annotated[Place, Values("folders", "name")]
VersionId = Annotated[str, Values("folder versions", "id", given=("folder",))]
EventId = Annotated[str, Values("folder undo", "id", given=("folder",))]
ConflictNumber = Annotated[str, Values("folder conflicts", "version", given=("folder",))]
ConflictPath = Annotated[str, Values("folder conflicts", "path", given=("folder",))]
ON_FULL = (Choice("y", "join as shown", {"yes": True}),)


@command(
    needs="store",
    empty_text="No live folders: coterie folder new PATH --with WHOM makes one.",
    title="Live folders",
)
async def folders(folders: "FoldersService") -> list[FolderLine]:
    """List the live folders of this computer, and those that you may join.

    `unsent` is what nobody else has yet: while it is 0 everywhere, this computer may be switched off.
    """
    return folders.lines()


@command("path", path="folder new", kind="folders", needs="running", title="Make a live folder")
async def folder_new(
    folders: "FoldersService",
    path: Path,
    *,
    with_: list[Person] = [],  # noqa: B006  (it is only read)
    name: str = "",
) -> FolderMade:
    """Make a folder that is the same on several computers.

    path: The folder; it is made when there is none. What is in it stays.
    with_: With whom: a person, a computer or a circle; WHOM:read for those who may not change it, WHOM:keep for
        those who keep a copy that they cannot read. Several times.
    name: What it is called, instead of its own name.
    """
    return await folders.new(path, with_, name)


@command(
    "folder",
    "path",
    path="folder join",
    needs="running",
    asks={"not_empty": ON_FULL},
    title="Join a live folder",
)
async def folder_join(
    folders: "FoldersService",
    folder: Offered,
    path: Path,
    *,
    yes: bool = False,
    quota: Size = Size(0),  # noqa: B008  (a number)
    on_demand: bool = False,
) -> FolderMade:
    """Have a live folder of somebody on this computer, too.

    folder: NAME, or PERSON/NAME where several are called so.
    path: Where it goes: an empty folder, one that is made, or one with the same in it.
    yes: Join although something is there: what is equal stays, what differs is kept on both sides.
    on_demand: See all of it here, and let contents come only when they are asked for.
    quota: Of a folder that you only keep for somebody: how much at most, as 100GB.
    """
    return await folders.join(folder, path, yes=yes, quota=quota, on_demand=on_demand)


@command("folder", "quota", path="folder quota", needs="running", title="How much to keep for somebody")
async def folder_quota(folders: "FoldersService", folder: Folder, quota: Size) -> FolderSaid:
    """Say how much of a folder to keep that you cannot read, for its owner.

    folder: Its name.
    quota: How much at most: 500MB, 100GB.
    """
    return folders.set_quota(folder, quota)


@command("folder", "whom", path="folder add", needs="running", title="Let somebody into a live folder")
async def folder_add(folders: "FoldersService", folder: Folder, whom: Person) -> FolderSaid:
    """Let somebody join a live folder of yours, or change what they may: WHOM:read, WHOM:write, WHOM:keep.

    folder: Its name.
    whom: A person, a computer or a circle; with :read if they may not change it, with :keep if they shall keep a copy
        that they cannot read.
    """
    return folders.add_member(folder, whom)


@command("folder", "whom", path="folder remove", needs="running", title="Remove somebody from a live folder")
async def folder_remove(folders: "FoldersService", folder: Folder, whom: Person) -> FolderSaid:
    """Let somebody follow a live folder of yours no longer; what they have stays with them.

    folder: Its name.
    whom: A person, a computer or a circle.
    """
    return folders.remove_member(folder, whom)


@command("folder", path="folder pause", needs="running", title="Pause a live folder")
async def folder_pause(folders: "FoldersService", folder: Folder) -> FolderSaid:
    """Neither send nor take changes of a live folder for a while.

    folder: Its name.
    """
    return await folders.pause(folder)


@command("folder", path="folder resume", needs="running", title="Go on with a live folder")
async def folder_resume(folders: "FoldersService", folder: Folder) -> FolderSaid:
    """Go on with a live folder that was paused, or whose disk is back.

    folder: Its name.
    """
    return await folders.resume(folder)


@command("folder", path="folder leave", needs="running", title="Leave a live folder")
async def folder_leave(folders: "FoldersService", folder: Folder) -> FolderSaid:
    """Follow a live folder no longer; its files stay here as they are.

    folder: Its name.
    """
    return await folders.leave(folder)


@command(
    "folder",
    "path",
    path="folder ls",
    needs="running",
    empty_text="Nothing is there.",
    title="What is in a live folder",
)
async def folder_ls(folders: "FoldersService", folder: Folder, path: str = "") -> list[EntryLine]:
    """List what is in a live folder, here or not.

    folder: Its name.
    path: A folder in it.
    """
    return folders.entries(folder, path)


@command(
    "folder",
    path="folder conflicts",
    needs="running",
    empty_text="No conflicts.",
    title="Conflicts of live folders",
)
async def folder_conflicts(folders: "FoldersService", folder: Folder = "") -> list[ConflictLine]:
    """List the files that several computers changed without each other; each version is kept.

    folder: Its name; without it, of all.
    """
    return folders.conflicts(folder)


@command("folder", "path", "version", path="folder resolve", needs="running", title="Settle a conflict")
async def folder_resolve(
    folders: "FoldersService", folder: Folder, path: ConflictPath, version: ConflictNumber
) -> FolderSaid:
    """Settle a conflict: one version becomes the file, on all computers; the others go to the trash.

    folder: Its name.
    path: The file, as `coterie folder conflicts` shows it.
    version: Which one: its number there.
    """
    return await folders.resolve(folder, path, version)


@command(
    "folder",
    "path",
    path="folder versions",
    needs="running",
    empty_text="No earlier versions.",
    title="Earlier versions",
)
async def folder_versions(folders: "FoldersService", folder: Folder, path: str = "") -> list[VersionLine]:
    """List what changes of others replaced or removed here; it is kept for 30 days.

    folder: Its name.
    path: A file or folder in it.
    """
    return await folders.versions(folder, path)


@command("folder", "version", path="folder restore", needs="running", title="Put an earlier version back")
async def folder_restore(folders: "FoldersService", folder: Folder, version: VersionId) -> FolderSaid:
    """Put an earlier version back to where it was; what is there now is kept as a version.

    folder: Its name.
    version: Its id, as `coterie folder versions` shows it.
    """
    return await folders.restore(folder, version)


@command(
    "folder",
    "change",
    path="folder undo",
    needs="running",
    empty_text="Nothing to undo.",
    title="Undo a change of a live folder",
)
async def folder_undo(folders: "FoldersService", folder: Folder, change: str = "") -> list[EventLine]:
    """Take back what came from another computer: as it was before, for everybody. Without a change, list them.

    folder: Its name.
    change: The id of the change, as the list has it.
    """
    return await folders.undo(folder, change)


@command("folder", "patterns", path="folder ignore", needs="running", title="What a live folder leaves out")
async def folder_ignore(
    folders: "FoldersService",
    folder: Folder,
    patterns: list[str] = [],  # noqa: B006  (it is only read)
    *,
    remove: bool = False,
) -> list[IgnoredLine]:
    """List what a live folder leaves out; with patterns, leave those out on this computer, too.

    What is left out is neither sent nor changed here. Patterns for everybody stand in the file .coterieignore at the
    top of the folder.

    folder: Its name.
    patterns: As in .gitignore: '*.iso', 'build/', '!keep.iso'.
    remove: Leave them out no longer.
    """
    return await folders.ignore(folder, patterns, remove=remove)


@command(
    "folder",
    "patterns",
    path="folder select",
    needs="running",
    empty_text="All of it is to be here.",
    title="What of a live folder is on this disk",
)
async def folder_select(
    folders: "FoldersService",
    folder: Folder,
    patterns: list[str] = [],  # noqa: B006  (it is only read)
    *,
    on_demand: bool = False,
    remove: bool = False,
    larger_than: Size | None = None,
    kinds: list[str] = [],  # noqa: B006  (it is only read)
) -> list[ChoiceLine]:
    """Choose what of a live folder is always on this disk, or only on demand; without patterns, list the choices.

    All of the folder is seen in any case. What is on demand is read from the other computers when it is opened in the
    drive or the page, and comes to this disk with `coterie folder get`. What is here leaves once another computer has
    shown that it has it; that is no deletion. The last choice that matches counts, patterns before size and kind.

    folder: Its name.
    patterns: Paths in it, or patterns as in .gitignore: 'films/', '*.iso', '*' for all.
    on_demand: They are on demand, instead of always here.
    remove: Forget the choices of these patterns.
    larger_than: What is larger is on demand: 1GB; 0 takes that back.
    kinds: films, pictures, music or archives are on demand; several times. `none` takes that back.
    """
    wanted = [kind for kind in kinds if kind != "none"] if kinds else None
    return await folders.choosing(folder).select(
        patterns, on_demand=on_demand, remove=remove, larger_than=larger_than, kinds=wanted
    )


@command("folder", "paths", path="folder get", needs="running", title="Get contents of a live folder")
async def folder_get(folders: "FoldersService", folder: Folder, paths: list[str]) -> FolderSaid:
    """Let contents of a live folder come that are on demand; they stay until `coterie folder select` says otherwise.

    folder: Its name.
    paths: Files or folders in it.
    """
    return await folders.choosing(folder).get(paths)


@command("folder", path="folder go-on", needs="running", title="Let deletions of a live folder happen")
async def folder_go_on(folders: "FoldersService", folder: Folder) -> FolderSaid:
    """Let happen what a live folder asks about: many files went, or became others, within minutes.

    folder: Its name.
    """
    return folders.go_on(folder)


@command("folder", path="folder keep", needs="running", title="Undo many deletions of a live folder")
async def folder_keep(folders: "FoldersService", folder: Folder) -> FolderSaid:
    """Undo what a live folder asks about: what went here comes back from others, what others removed stays for all.

    folder: Its name.
    """
    return folders.keep(folder)
