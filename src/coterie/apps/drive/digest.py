"""HTTP Digest (RFC 7616): who knows a password, without its being sent, and each login once. Pure.

A nonce says when it was made, and which it was, under a keyed hash: of those that nobody used nothing is kept. Of those
that were used the highest count is kept, and which of those just below it came: no request is taken twice.
"""

import hmac
import re
from collections import OrderedDict
from hashlib import md5, sha256

import msgspec

from coterie.decoding import decoder
from coterie.errors import UsageError
from coterie.texts import tr

NONCE_S = 300.0  # then a program logs in anew, by itself ("stale"); guess: a request that was heard is worthless soon
NONCES_MAX = 1_024  # that were used, in memory; who needs a forgotten one logs in anew
COUNTS_BACK = 64  # programs with several connections come out of order by less; guess
HEADER_CHARS_MAX = 8_192  # of a login; an address and some hashes
_TIME_CHARS, _NUMBER_CHARS, _MAC_CHARS = 12, 12, 32  # of a nonce: milliseconds, its number, the hash
_FIELD = re.compile(
    r'([a-z]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))[ \t]*(?:,[ \t]*|$)', re.IGNORECASE
)


class Login(msgspec.Struct, frozen=True):
    """What a program says: `count` of its requests with this nonce; only who knows the password makes `response`."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    cnonce: str
    count: int


@decoder(UsageError, "the login of a request to the drive")
def read_login(header: str) -> Login:
    """The `Authorization` of a Digest login with `qop=auth`: without it nothing tells a request from its copy.

    Raises:
        UsageError: it is none, or one of before RFC 2617.
    """
    scheme, _, rest = header[:HEADER_CHARS_MAX].partition(" ")
    fields: dict[str, str] = {}
    at, rest = 0, rest.strip()
    while at < len(rest):
        match = _FIELD.match(rest, at)
        if match is None or match[1].lower() in fields:
            raise UsageError(tr("a login that cannot be read"))
        fields[match[1].lower()] = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        at = match.end()
    good = scheme.lower() == "digest" and fields.get("qop", "").lower() == "auth"
    if not good or fields.get("algorithm", "MD5").upper() != "MD5" or len(fields["nc"]) != 8:
        raise UsageError(tr("a login that cannot be read"))
    names = ("username", "realm", "nonce", "uri", "response", "cnonce")
    username, realm, nonce, uri, response, cnonce = (fields[name] for name in names)
    return Login(username, realm, nonce, uri, response, cnonce, int(fields["nc"], 16))


def expected(login: Login, password: str, method: str) -> str:
    """The `response` of who knows the password (RFC 7616, 3.4.1). MD5, as televisions know nothing else."""
    who = _md5(f"{login.username}:{login.realm}:{password}")
    what = _md5(f"{method}:{login.uri}")
    return _md5(f"{who}:{login.nonce}:{login.count:08x}:{login.cnonce}:auth:{what}")


class Nonces:
    """Those of one server, while it runs. Not for several threads at once."""

    def __init__(self, key: bytes) -> None:
        """`key`: secret, and of this run."""
        self._key = key
        self._made = 0
        self._forgotten = 0  # of the nonces up to this number those not in `_used` are taken for used up
        self._used: OrderedDict[int, tuple[int, int]] = (
            OrderedDict()
        )  # the highest count, those below it (bits)

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._used)

    def make(self, now: float) -> str:
        """A new one, at `now` seconds."""
        self._made += 1
        said = f"{int(now * 1000):0{_TIME_CHARS}x}{self._made:0{_NUMBER_CHARS}x}"
        return said + self._mac(said)

    def use(self, nonce: str, count: int, now: float) -> bool:
        """Take a request whose login is right; False: it is too old, or was taken before."""
        said, mac = nonce[:-_MAC_CHARS], nonce[-_MAC_CHARS:]
        if len(said) != _TIME_CHARS + _NUMBER_CHARS or not hmac.compare_digest(
            self._mac(said).encode(), mac.encode("utf-8", "replace")
        ):
            return False
        made, number = int(said[:_TIME_CHARS], 16) / 1000, int(said[_TIME_CHARS:], 16)
        if not made <= now <= made + NONCE_S or count < 1:
            return False
        if number not in self._used and number <= self._forgotten:
            return False
        highest, below = self._used.get(number, (0, 0))
        if count > highest:
            below = (below << (count - highest) | 1 << (count - highest - 1)) if highest else 0
            highest, below = count, below & ((1 << COUNTS_BACK) - 1)
        else:
            bit = 1 << (highest - count - 1) if count < highest else 0
            if not bit or highest - count > COUNTS_BACK or below & bit:
                return False
            below |= bit
        self._used[number] = highest, below
        while len(self._used) > NONCES_MAX:
            self._forgotten = max(self._forgotten, self._used.popitem(last=False)[0])
        return True

    def _mac(self, said: str) -> str:
        return hmac.new(self._key, said.encode(), sha256).hexdigest()[:_MAC_CHARS]


def _md5(text: str) -> str:
    return md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
