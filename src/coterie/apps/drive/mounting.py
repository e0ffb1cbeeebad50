"""How a system makes the drive a folder. Pure.

By the number 127.0.0.1: programs that are no browsers do not know `drive.localhost` on every system.
"""

from coterie.apps.drive.login import USER
from coterie.texts import tr


def ways(system: str, port: int, password: str = "") -> list[str]:
    """What to type or choose on this system ("linux", "darwin", "win32"), best first.

    `password`: what programs show where the system does not tell whose they are.
    """
    host = f"127.0.0.1:{port}"
    url = f"http://{host}/"
    login = [tr("user {user}, password {password}", user=USER, password=password)] if password else []
    match system:
        case "darwin":
            return [f"Finder: Go, Connect to Server, {url}", f"mount_webdav -i {url} DIR", *login]
        case "win32":
            user = f" /user:{USER} {password}" if password else ""
            return [f"net use X: {url}{user}", f"Explorer: Map network drive, {url}", *login]
        case _:
            return [
                f"gio mount dav://{host}/",
                f"Files, Other Locations: dav://{host}/",
                "coterie drive mount DIR",
                *login,
            ]
