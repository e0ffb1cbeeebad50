"""Copy the libraries of the page into the package, from npm, and write down what they are.

    vendor.py        what is pinned below; needs npm

Nothing is built: the files are those of the packages, but for the icons, of which one file is made.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VENDOR = Path(__file__).parent.parent / "src" / "coterie" / "web" / "static" / "vendor"
PACKAGES = {  # name: version, licence, its files and what they are called here
    "htmx.org": ("2.0.11", "0BSD", {"dist/htmx.min.js": "htmx.min.js", "LICENSE": "htmx.LICENSE"}),
    "idiomorph": (
        "0.8.0",
        "0BSD",
        {"dist/idiomorph.min.js": "idiomorph.min.js", "LICENSE": "idiomorph.LICENSE"},
    ),
    "uplot": (
        "1.6.32",
        "MIT",
        {
            "dist/uPlot.iife.min.js": "uplot.min.js",
            "dist/uPlot.min.css": "uplot.min.css",
            "LICENSE": "uplot.LICENSE",
        },
    ),
    "tus-js-client": ("4.3.1", "MIT", {"dist/tus.min.js": "tus.min.js", "LICENSE": "tus.LICENSE"}),
    "lucide-static": ("1.62.0", "ISC and MIT", {"LICENSE": "lucide.LICENSE"}),
}
ICONS = [
    "archive",
    "arrow-down",
    "arrow-down-up",
    "arrow-left",
    "arrow-right",
    "arrow-up",
    "badge-check",
    "bell",
    "camera",
    "check",
    "chevron-down",
    "chevron-left",
    "chevron-right",
    "circle-alert",
    "circle-check",
    "circle-dashed",
    "circle-x",
    "clock",
    "contrast",
    "copy",
    "download",
    "ellipsis",
    "external-link",
    "eye",
    "eye-off",
    "file",
    "file-text",
    "film",
    "folder",
    "folder-open",
    "gauge",
    "globe",
    "grid-2x2",
    "hand",
    "hard-drive",
    "heart-pulse",
    "house",
    "image",
    "info",
    "key-round",
    "languages",
    "laptop",
    "layers",
    "life-buoy",
    "link",
    "list",
    "lock",
    "log-out",
    "map",
    "menu",
    "minus",
    "monitor",
    "monitor-smartphone",
    "moon",
    "music",
    "package",
    "pause",
    "pencil",
    "play",
    "plug",
    "plus",
    "printer",
    "qr-code",
    "radio-tower",
    "refresh-cw",
    "rotate-ccw",
    "router",
    "save",
    "scan-line",
    "scissors",
    "search",
    "send",
    "settings",
    "share-2",
    "shield",
    "smartphone",
    "sparkles",
    "sun",
    "terminal",
    "trash-2",
    "triangle-alert",
    "undo-2",
    "upload",
    "user",
    "user-plus",
    "users",
    "wifi",
    "wifi-off",
    "x",
    "zap",
]
_HEAD = """# What stands here

Libraries of others that the page uses, unchanged; `python tools/vendor.py` writes this folder.

| file | package | version | licence | SHA-256 |
|---|---|---|---|---|
"""


def main() -> int:
    """Write the folder anew."""
    shutil.rmtree(VENDOR, ignore_errors=True)
    VENDOR.mkdir(parents=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (version, licence, files) in PACKAGES.items():
            package = _unpacked(Path(folder), f"{name}@{version}")
            made = {there: (package / here).read_bytes() for here, there in files.items()}
            if name == "lucide-static":
                made["icons.svg"] = _sprite(package / "icons")
            for there, content in sorted(made.items()):
                whole = re.sub(rb"\n//# sourceMappingURL=.*\n?\Z", b"\n", content)
                (VENDOR / there).write_bytes(whole)
                digest = hashlib.sha256(whole).hexdigest()
                rows.append(f"| {there} | {name} | {version} | {licence} | {digest} |\n")
    (VENDOR / "VENDORED.md").write_text(_HEAD + "".join(rows), encoding="utf-8")
    return 0


def _unpacked(folder: Path, package: str) -> Path:
    packed = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=folder, capture_output=True, text=True, check=True
    )
    to = folder / package.replace("@", "-")
    to.mkdir()
    subprocess.run(
        ["tar", "xzf", packed.stdout.split()[-1], "-C", to, "--strip-components=1"], cwd=folder, check=True
    )
    return to


def _sprite(icons: Path) -> bytes:
    """The icons as symbols of one file, each by its name."""
    symbols = []
    for name in ICONS:
        drawn = (icons / f"{name}.svg").read_text(encoding="utf-8")
        inside = drawn[drawn.index(">", drawn.index("<svg")) + 1 : drawn.rindex("</svg>")]
        inside = "".join(line.strip() for line in inside.splitlines())
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24">{inside}</symbol>\n')
    drawn = (
        'fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"'
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" {drawn}>\n{"".join(symbols)}</svg>\n'.encode()


if __name__ == "__main__":
    sys.exit(main())
