"""Check that everything coterie installs may be shipped: permissive licences only.

Weak copyleft (MPL-2.0) is accepted for tools that only developers install. What users get is permissive, but for the
packages named below, each with its reason.
"""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution

PERMISSIVE = (
    "mit",
    "bsd",
    "apache",
    "isc",
    "psf",
    "python software foundation",
    "cc0",
    "unlicense",
    "zlib",
    "0bsd",
)
# LGPL-2.1: used as a separate, unchanged, replaceable package through its public interface, as that licence asks; the
# only well-kept multicast DNS library for Python. MPL-2.0: its files stay as they are, in a package of their own.
EXCEPTIONS = {"zeroconf": "lgpl-2.1-or-later", "pathspec": "mozilla public license 2.0 (mpl 2.0)"}
DEV_ONLY = ("mpl-2.0", "mozilla public license 2.0")


def requirement_names(of: Distribution, extra: str) -> list[str]:
    """Names that `of` requires, with those of its `extra`; other extras are left out."""
    names = []
    for line in of.requires or []:
        spec, _, marker = line.partition(";")
        wanted = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
        if wanted is None or wanted.group(1) == extra:
            names.append(re.split(r"[\s<>=!~\[(]", spec.strip())[0])
    return names


def closure(extra: str) -> dict[str, Distribution]:
    """Every installed distribution that coterie[extra] reaches, by name in lower case."""
    found: dict[str, Distribution] = {}
    waiting = requirement_names(distribution("coterie"), extra)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # a requirement of another platform
        waiting += requirement_names(found[name], "")
    return found


def licence_of(package: Distribution) -> str:
    """The licence as the package's metadata states it, in lower case; "" when it states none."""
    said = package.metadata
    classified = [
        c.rpartition("::")[2] for c in said.get_all("Classifier", []) if c.startswith("License :: OSI")
    ]
    files = " or ".join(
        f"{name} {_title(package, name)}".strip() for name in said.get_all("License-File", [])
    )  # dual licences often come as LICENSE-APACHE, LICENSE-MIT
    for text in (said.get("License-Expression"), *classified, said.get("License"), files):
        if text and text.strip() and text.strip() != "OSI Approved":
            return str(text).strip().splitlines()[0].lower()
    return ""


def _title(package: Distribution, name: str) -> str:
    """The first line of a licence that comes with the package."""
    try:
        text = package.read_text(f"licenses/{name}") or package.read_text(name) or ""
    except UnicodeDecodeError:  # the licence of a part, in another encoding
        return ""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def is_allowed(licence: str, *, dev_only: bool) -> bool:
    """Whether one alternative of an OR, and all parts of its ANDs, are accepted."""
    accepted = PERMISSIVE + (DEV_ONLY if dev_only else ())
    return any(
        all(any(word in part for word in accepted) for part in re.split(r"\band\b", alternative))
        for alternative in re.split(r"\bor\b|/", licence)
    )


def main() -> None:
    """Print the packages that may not be shipped; exit 1 when there are any."""
    runtime = closure("") | closure("previews")
    everything = closure("dev") | runtime
    refused = []
    for name, package in sorted(everything.items()):
        licence = licence_of(package)
        if EXCEPTIONS.get(name) == licence:
            continue
        if not is_allowed(licence, dev_only=name not in runtime):
            refused.append(f"{name} {package.version}: {licence or 'no licence stated'}")
    if refused:
        sys.exit("not permissive, so not to be depended on:\n  " + "\n  ".join(refused))
    tools = len(everything) - len(runtime)
    print(
        f"licences: {len(runtime)} runtime and {tools} development packages, permissive but for {', '.join(EXCEPTIONS)}"
    )


if __name__ == "__main__":
    main()
