"""The folder of a node: places, settings, and one node at a time."""

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import StorageError, UsageError
from coterie.home import CONFIG_BYTES_MAX, NAME_CHARS_MAX, Config, Home
from coterie.private_file import write_private

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=NAME_CHARS_MAX).filter(
    str.strip
)


def test_a_home_is_where_one_says_then_the_environment_then_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COTERIE_HOME", str(tmp_path / "environment"))
    assert Home.locate(tmp_path / "said").root == tmp_path / "said"
    assert Home.locate().root == tmp_path / "environment"
    monkeypatch.delenv("COTERIE_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Home.locate().root.name == "coterie"
    monkeypatch.chdir(tmp_path)
    assert Home.locate("relative").root == tmp_path / "relative"


def test_folders_are_the_owners_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    home.prepare()
    for folder in (home.root, home.run, home.app("files")):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_home_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = Home(tmp_path / "file" / "home")
    with pytest.raises(StorageError, match=r"cannot be written: Not a directory.*--home"), home.lock():
        pass


def test_one_node_at_a_time_and_the_pid_of_the_other_is_said(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.lock():
        assert home.lock_holder() == os.getpid()
        assert stat.S_IMODE(home.lock_file.stat().st_mode) == 0o600
        with pytest.raises(StorageError, match=rf"pid {os.getpid()}\) already runs in"), home.lock():
            pass
        assert home.lock_holder() == os.getpid()
    assert home.lock_holder() is None
    with home.lock():
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal, pathlib; from coterie.home import Home\n"
        "with Home(pathlib.Path(sys.argv[1])).lock(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=30)
    home = Home(tmp_path)
    assert home.lock_holder() is not None
    with home.lock():
        assert home.lock_holder() == os.getpid()


def test_defaults_without_a_file(tmp_path: Path) -> None:
    config = Config.load(tmp_path / "config.toml")
    assert (config.port, config.api_port) == (0, 0)
    assert config.name


def test_saving_keeps_comments_and_order(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('# mine\nport = 7 # why\n\nname = "attic"\n')
    Config.load(file).changed("port", "8").changed("bind", "127.0.0.1").save(file)
    assert file.read_text() == '# mine\nport = 8\n\nname = "attic"\nbind = "127.0.0.1"\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@given(name=NAMES, port=st.integers(0, 65535))
def test_every_value_comes_back(tmp_path_factory: pytest.TempPathFactory, name: str, port: int) -> None:
    file = tmp_path_factory.mktemp("config") / "config.toml"
    config = Config(name=name, port=port, bind="::")
    config.save(file)
    assert tomllib.loads(file.read_bytes().decode()).get("name", config.name) == name
    assert Config.load(file) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 1\n\n[extra]\nx = 1\n", r"line 3: unknown key 'extra'; known: port"),
        ("# a\nport = '1'\n", r"line 2: port: it is a whole number"),
        ("api_port = 65536\n", r"line 1: api_port: api_port must be 0 to 65535"),
        ("port = -1\n", r"line 1: port"),
        ("bind = 'here'\n", r"line 1: bind: bind must be an IP address"),
        ("name = ''\n", r"line 1: name"),
        ("port = true\n", r"line 1: port"),
        ("port\n", r"is not TOML: .*line 1"),
    ],
)
def test_errors_name_the_key_and_the_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said) as raised:
        Config.load(file)
    assert str(file) in str(raised.value)


def test_a_file_that_is_no_text_or_too_large(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"name = '\xff'")
    with pytest.raises(UsageError, match="UTF-8"):
        Config.load(file)
    file.write_bytes(b"#" * CONFIG_BYTES_MAX)
    assert Config.load(file) == Config()
    file.write_bytes(b"#" * (CONFIG_BYTES_MAX + 1))
    with pytest.raises(UsageError, match=str(CONFIG_BYTES_MAX)):
        Config.load(file)


def test_a_name_that_means_something_else_is_refused_when_set_and_read_when_it_is_there() -> None:
    with pytest.raises(UsageError, match="cannot be a name"):
        Config().changed("name", "anyone")
    assert Config.parse('name = "anyone"').name == "anyone"


def test_a_name_has_a_bound() -> None:
    assert Config().changed("name", "x" * NAME_CHARS_MAX).name
    with pytest.raises(UsageError, match=str(NAME_CHARS_MAX)):
        Config().changed("name", "x" * (NAME_CHARS_MAX + 1))


@pytest.mark.parametrize(("key", "value"), [("nope", "1"), ("port", "x"), ("port", "70000"), ("bind", "x")])
def test_wrong_changes_are_refused(key: str, value: str) -> None:
    with pytest.raises(UsageError, match=key):
        Config().changed(key, value)


def test_private_files_replace_whole_and_leave_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, b"new")
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(StorageError, match="cannot be written"):
        write_private(tmp_path / "missing" / "secret", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_first_nodes_of_the_dht_are_hosts_with_ports() -> None:
    config = Config.parse('dht_bootstrap = "dht.example.org:6881, [2001:db8::1]:25401, "\n')
    assert config.dht_nodes() == [("dht.example.org", 6881), ("2001:db8::1", 25401)]
    assert Config().dht_nodes() == []


@pytest.mark.parametrize("text", ["dht.example.org", ":6881", "host:", "host:0", "host:65536", "host:x"])
def test_a_first_node_that_is_none_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="line 1: dht_bootstrap"):
        Config.parse(f'dht_bootstrap = "{text}"\n')
