"""What `phone` keeps on disk."""

import msgspec


class PhoneRecord(msgspec.Struct):
    """A phone that was let in.

    Fields:
        digest: SHA-256 of its cookie, in hexadecimal; the cookie itself is on the phone only.
        over: "https", or "http" where its owner chose that.
        camera: the live folder that its pictures may go to, by name; "": none.
        seen: seconds since 1970, to the hour.
    """

    id: str
    created: float
    name: str
    may: tuple[str, ...]
    digest: str
    over: str
    seen: float
    agent: str = ""
    camera: str = ""
