"""How a system makes the drive a folder. Pure."""


def ways(system: str, url: str) -> list[str]:
    """What to type or choose on this system ("linux", "darwin", "win32"), best first."""
    host = url.removeprefix("http://").rstrip("/")
    match system:
        case "darwin":
            return [f"Finder: Go, Connect to Server, {url}", f"mount_webdav -S {url} DIR"]
        case "win32":
            return [f"net use X: {url}", f"Explorer: Map network drive, {url}"]
        case _:
            return [
                f"gio mount dav://{host}/",
                f"Files, Other Locations: dav://{host}/",
                "coterie drive mount DIR",
            ]
