"""The note that not everybody reaches this computer: once, in a line, and again only when that has changed."""

from pathlib import Path

from coterie.net.find.outside import Outside
from coterie.reach_note import ReachNote

NO, PERHAPS, YES = (Outside(reached=one, because="of something") for one in ("no", "perhaps", "yes"))


def test_it_is_said_once_for_each_state_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "reach-note"
    assert ReachNote(path).say(YES) == ""
    assert not path.exists()
    said = ReachNote(path).say(NO)
    assert "nobody reaches this computer: `coterie doctor`" in said
    assert len(said) < 100
    assert ReachNote(path).say(NO) == ""
    assert "not everybody" in ReachNote(path).say(PERHAPS)
    note = ReachNote(path)
    assert [note.say(one) != "" for one in (PERHAPS, YES, YES, PERHAPS)] == [False, False, False, True]


def test_a_file_that_cannot_be_written_or_is_nonsense_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "reach-note"
    assert ReachNote(path).say(NO) == ReachNote(path).say(NO) != ""
    (tmp_path / "nonsense").write_bytes(b"\xff" * 1_000)
    assert ReachNote(tmp_path / "nonsense").say(NO) != ""
