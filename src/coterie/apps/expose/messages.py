"""The wire types of `expose`. One stream is one connection to a service; see docs/protocol/expose.md.

The asker sends `Use`, the other side answers `Opened` or `Refused`. After these two frames the stream carries the bytes
of the connection as they are (TCP), or datagrams behind their lengths (UDP), each way until that side finishes. The
asker need not wait for the answer before it sends. Datagrams of a flow with a number go as datagrams of the connection,
behind that number, where they fit.

A stream that begins with `Watch` carries `Beat`s instead: both sides learn soon when the other is gone.
"""

from typing import Annotated

import msgspec

from coterie.services.carry.messages import Beat, Watch
from coterie.wire.frames import Message, Protocol

NAME_CHARS_MAX = 63  # a label of a host name (RFC 1035, 2.3.4)
FRAME_BYTES_MAX = 4_096
HOST_HEADER_CHARS_MAX = 255  # of a name in the DNS (RFC 1035, 2.3.4)


class Use(Message, frozen=True):
    """From the asker: connect this stream to the service of this name.

    `kind`: "tcp", "udp", or "ask": only say what it is. `flow`: of "udp", the asker's number for its packets; 0: none.
    """

    name: str
    kind: str = "tcp"
    flow: int = 0


class Opened(Message, frozen=True):
    """The connection to the service is made. `host_header`: what a web proxy is to say in `Host`; "": what it was.

    `kind`: what the service is, "tcp" or "udp". `flow`: the number in `Use` where this side takes packets, else 0.
    """

    host_header: Annotated[str, msgspec.Meta(max_length=HOST_HEADER_CHARS_MAX, pattern=r"\A[ -~]*\Z")] = ""
    kind: str = "tcp"
    flow: int = 0


class Refused(Message, frozen=True):
    """It is not: `reason` for people. `is_failed`: the service is there for you, and did not answer."""

    reason: str
    is_failed: bool = False


PROTOCOL = Protocol(
    name="expose",
    versions=(1,),
    kinds={1: Use, 2: Opened, 3: Refused, 4: Watch, 5: Beat},
    frame_bytes_max=FRAME_BYTES_MAX,
)
