"""The folder of a node: places, settings, and one node at a time."""

import errno
import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.access.names import NAME_CHARS_MAX
from coterie.errors import StorageError, UsageError
from coterie.home import Home
from coterie.private_file import write_private
from coterie.settings import Config, platform_name
from coterie.settings_file import CONFIG_BYTES_MAX

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


ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=200)
KEYS = st.sampled_from(["name", "dht_bootstrap", "bind", "port", "reach", "lanes"])


@given(
    key=KEYS,
    value=ANY_TEXT | st.sampled_from(["a\u2028b", "a\x85b", "\x7f", "'''", '"""', "9" * 5000, "\\", "# x"]),
)
def test_whatever_is_set_can_be_read_again(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str
) -> None:
    file = tmp_path_factory.mktemp("config") / "config.toml"
    for _ in range(2):  # the second time the line is there already
        try:
            config = Config.load(file).changed(key, value)
        except UsageError:
            return
        config.save(file)
        assert Config.load(file) == config
        assert Config.load(file).changed("port", "7") == msgspec.structs.replace(config, port=7)


def test_a_line_end_of_another_kind_within_a_value_moves_no_line(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('name = "a\u2028b\x85c"\nport = 1\n', encoding="utf-8")
    Config.load(file).changed("port", "2").save(file)
    assert Config.load(file) == Config(name="a\u2028b\x85c", port=2)


def test_a_value_too_large_to_be_read_again_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    nodes = ",".join(["dht.example.org:6881"] * (CONFIG_BYTES_MAX // 20))
    with pytest.raises(UsageError, match="larger than"):
        Config.load(file).changed("dht_bootstrap", nodes).save(file)
    assert Config.load(file) == Config()


def test_a_value_over_several_lines_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('# mine\ndht_bootstrap = """\\\n  a:1,\\\n  b:2"""\nport = 3\n')
    Config.load(file).changed("dht_bootstrap", "c:3").save(file)
    assert file.read_text() == '# mine\ndht_bootstrap = "c:3"\nport = 3\n'


def test_a_form_that_cannot_be_changed_line_by_line_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('"na\\u006de" = "attic"\n')
    with pytest.raises(UsageError, match="with an editor"):
        Config.load(file).changed("name", "cellar").save(file)
    assert Config.load(file).name == "attic"


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"),
     ("utf-16-le", b""), ("utf-16-be", b"")],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_what_any_usual_editor_saves_is_understood(
    tmp_path: Path, encoding: str, mark: bytes, ending: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(mark + ending.join(["# größe", 'name = "größe"', "port = 7", ""]).encode(encoding))
    assert Config.load(file) == Config(name="größe", port=7)
    Config.load(file).changed("port", "8").save(file)
    assert Config.load(file) == Config(name="größe", port=8)
    assert (b"\r\n" in file.read_bytes()) == (ending == "\r\n" and encoding == "utf-8")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('# ok\nname = "größe"\n'.encode("latin-1"), r"line 2: .*save the file as UTF-8"),
        (b"port = 1\nport = " + b"9" * 5000, "line 2"),
        (b"port = 1\nx = " + b"[" * 5000, "line 2"),
        (b"port = 99999999999999999999999999\n", "line 1"),
        (b"\xff\xfe\x00", "cannot be|no UTF-8"),
        ("name = “attic”\n".encode(), "line 1"),
    ],
)
def test_what_is_not_understood_is_named_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        Config.load(file)


@pytest.mark.parametrize("value", ["\udcff", "x\ud800", "1" * 5000, "1e999", "nan"])
@pytest.mark.parametrize("key", ["name", "port", "api_port", "lanes", "reach", "dht_bootstrap"])
def test_a_value_that_cannot_be_is_refused_in_words(key: str, value: str) -> None:
    if key == "name" and value.isascii() and len(value) < NAME_CHARS_MAX:
        assert Config().changed(key, value).name == value
        return
    with pytest.raises(UsageError) as refused:
        Config().changed(key, value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("key", "words"), [("reach", "local, circle, internet"), ("relay", "contacts, always, off")]
)
def test_a_setting_of_a_few_words_names_them(key: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"it is one of {words}"):
        Config().changed(key, "sometimes")
    with pytest.raises(UsageError, match=f"line 1: {key}: it is one of {words}"):
        Config.parse(f'{key} = "sometimes"')


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_told_from_a_home_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    with Home(tmp_path).lock(), pytest.raises(StorageError, match="already runs"), Home(tmp_path).lock():
        pass
    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(StorageError, match="file system without locks"), Home(tmp_path).lock():
        pass


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "XDG_DATA_HOME", "COTERIE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(UsageError, match="set HOME, or say where"):
        Home.locate()
    with pytest.raises(UsageError, match="set HOME, or say where"):
        Home.locate("~/here")
    assert Home.locate("/here").root == Path("/here")


@pytest.mark.parametrize("name", ["", "\udcff\udcfe", "\x00\n", None])
def test_a_computer_whose_name_is_no_text_has_a_name_all_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    def hostname() -> str:
        if name is None:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return name

    monkeypatch.setattr("socket.gethostname", hostname)
    assert Config().name == "" or Config().name.isprintable()
    assert platform_name().isprintable()
    assert platform_name().encode()
