"""Names of files are UTF-8, or bytes, whatever the locale says; what is printed fits the terminal."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LOCALES = {
    "C": {"LANG": "C"},
    "POSIX": {"LC_ALL": "POSIX"},
    "no UTF-8 mode": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "8859-1": {"LC_ALL": "de_DE.ISO-8859-1", "LANGUAGE": "en", "PYTHONUTF8": "0"},
}


def latin_1(folder: Path) -> dict[str, str]:
    """Settings for a locale of its own making."""
    if not (shutil.which("localedef") and Path("/usr/share/i18n/charmaps").is_dir()):
        assert not os.environ.get("CI"), "this test needs localedef and its tables: Debian's locales"
        pytest.skip("needs localedef and its tables: Debian's locales")
    place = folder / "de_DE.ISO-8859-1"
    subprocess.run(["localedef", "-i", "de_DE", "-f", "ISO-8859-1", place], check=True, capture_output=True)
    return {"LOCPATH": str(folder)}


@pytest.mark.parametrize("locale", list(LOCALES))
def test_a_name_is_utf8_in_every_locale(tmp_path: Path, locale: str) -> None:
    unset = ("LANG", "LC_ALL", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING")
    environment = {k: v for k, v in os.environ.items() if k not in unset} | LOCALES[locale]
    environment |= {"COTERIE_HOME": str(tmp_path / "home")} | (
        latin_1(tmp_path) if locale == "8859-1" else {}
    )
    path = os.fsencode(tmp_path) + b"/\xc3\xa4\xff"
    Path(os.fsdecode(path)).write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-m", "coterie", "share", path],
        env=environment, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    shown = "\N{LATIN SMALL LETTER A WITH DIAERESIS}".encode("latin-1" if locale == "8859-1" else "utf-8")
    assert shown + b"\\udcff' cannot be shared: its name is not valid UTF-8" in done.stderr
    assert done.returncode == 2
