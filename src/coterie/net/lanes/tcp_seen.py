"""What Linux says of a TCP connection (`TCP_INFO`), and how its pace is set. OSError: this system does not."""

import socket
import struct

from coterie.net.lanes.choice import PathSeen

RATE_BASED = b"bbr"  # Cardwell et al., "BBR: Congestion-Based Congestion Control", 2016
WAY_BYTES_MAX = 16  # Linux, include/net/tcp.h: TCP_CA_NAME_MAX
PACED_BYTES_PER_S = 4_000_000_000  # no limit, but with any at all TCP sends evenly
_SO_MAX_PACING_RATE = 47  # Linux, asm-generic/socket.h; 3.13, and without `sch_fq` 4.13
# Linux, include/uapi/linux/tcp.h, struct tcp_info: tcpi_snd_mss, rtt, snd_cwnd, total_retrans, min_rtt, data_segs_out
_INFO = struct.Struct("=16xI48xI8xI16xI44xI4xI")
_RATE = struct.Struct("=160xQ")  # tcpi_delivery_rate, bytes a second
_REPEATS_AT = 2  # tcpi_retransmits
_DELIVERED = struct.Struct("=16xI172xI")  # tcpi_snd_mss, tcpi_delivered, in segments


def _told(sock: socket.socket, form: struct.Struct) -> tuple[int, ...]:
    if not hasattr(socket, "TCP_CONGESTION"):
        raise OSError("no TCP_INFO here")
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, form.size)
    return form.unpack(info.ljust(form.size, b"\0"))


def path_seen(sock: socket.socket) -> PathSeen:
    """How its path looks now."""
    segment, rtt_us, window, repeated, least_rtt_us, segments = _told(sock, _INFO)
    return PathSeen(segments, repeated, rtt_us, least_rtt_us, window * segment)


def repeats(sock: socket.socket) -> int:
    """How often one packet was sent again in a row without an answer."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _REPEATS_AT + 1)[_REPEATS_AT]


def delivery_rate(sock: socket.socket) -> int:
    """The rate at which data arrived there last. Bytes a second."""
    return _told(sock, _RATE)[0]


def delivered_bytes(sock: socket.socket) -> int:
    """About how much arrived there so far, what waits for a lost packet included."""
    segment, segments = _told(sock, _DELIVERED)
    return segment * segments


def set_pace(sock: socket.socket, bytes_per_s: int) -> None:
    """Send no faster; 0: as fast as it likes, but evenly."""
    rate = struct.pack("=I", min(bytes_per_s or PACED_BYTES_PER_S, PACED_BYTES_PER_S))
    sock.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate)


def own_way(sock: socket.socket) -> bytes:
    """How it deals with congestion, by its name."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, WAY_BYTES_MAX).rstrip(b"\0")


def choose_way(sock: socket.socket, name: bytes) -> bool:
    """Deal with congestion like this from now on; False where the system does not know how."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
    except OSError:
        return False
    return True


def goes_by_rate() -> bool:
    """Whether this system can send by the rate that arrives."""
    if not hasattr(socket, "TCP_CONGESTION"):
        return False
    with socket.socket() as sock:
        return choose_way(sock, RATE_BASED)
