"""How a system makes the drive a folder. Pure.

By the number 127.0.0.1: programs that are no browsers do not know `drive.localhost` on every system.
"""


def ways(system: str, port: int) -> list[str]:
    """What to type or choose on this system ("linux", "darwin", "win32"), best first."""
    host = f"127.0.0.1:{port}"
    url = f"http://{host}/"
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
