"""The page that `coterie` alone shows."""

from pathlib import Path

from tests.fakes.faces import coterie


def test_alone_it_shows_first_steps_and_every_command_under_its_purpose(tmp_path: Path) -> None:
    shown = coterie(tmp_path, env={"COLUMNS": "80"})
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings[:3] == ["Options:", "First:", "Share and get:"]
    assert headings[-1] == "More:"  # the fake app says no purpose
    first = lines[lines.index("First:") + 1 : lines.index("Share and get:") - 1]
    assert [line.split("  ")[1] for line in first if line.startswith("  coterie")][:2] == [
        "coterie up --background",
        "coterie share PATH",
    ]
    words = [line.split()[0] for line in lines if line.startswith("  ") and line[2:3].isalpha()]
    assert {"share", "invite", "grant", "autostart", "doctor"} <= set(words)
    assert coterie(tmp_path, "--help", env={"COLUMNS": "80"}).stdout == shown.stdout
