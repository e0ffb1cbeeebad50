"""Every bound of the network room, by name, with its unit and where the number comes from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NetLimits:
    """The bounds of one `Endpoint`. Times are seconds of the event loop's clock."""

    # Connections
    connections_max: int = 512  # measured: 200 endpoints with 398 connections take 350 MB; guess above that
    connections_strangers_max: int = 384  # guess: the rest is for those who are known, and for our own dials
    connections_network_max: int = (
        64  # of strangers of one IPv4 address or IPv6 /64; guess: an office behind a router
    )
    handshakes_max: int = 128  # guess: incoming connections that have not said Hello yet
    handshakes_strangers_max: int = 96  # guess
    handshakes_network_max: int = (
        48  # guess: thirty computers behind one router that come at once, and some more
    )
    handshake_s: float = 5.0  # guess: five round trips of a bad satellite link
    dial_s: float = 6.0  # an offline peer is reported within 10 s of a cold start, closing included
    dial_restarts_max: int = 8  # guess: times that newly found addresses may join a dial under way
    hold_s: float = (
        1.5  # guess: an own dial that has not reached a peer who reached us is given up after this
    )
    survivor_s: float = 1.0  # guess: how long after DUPLICATE the connection that stays may take to appear
    idle_s: float = (
        60.0  # guess: reconnecting costs 5 ms of CPU, keeping costs a keep-alive packet every few seconds
    )
    connections_per_s: float = 2.0  # guess: a peer that restarts in a loop
    connections_burst: int = 20  # guess: both sides dialling at once, several times over

    # Long paths: what waits for one answer waits for four round trips at least, as far as this
    patience_s: float = (
        30.0  # QUIC's usual idle time-out; guess: six round trips of the longest path there is
    )
    patience_round_trips: int = 4  # guess: the answer, and a packet lost on the way

    # Streams
    streams_per_peer_max: int = 64  # guess; the QUIC wheel itself lets a peer have 100 open
    header_s: float = 5.0  # guess: as `handshake_s`
    frame_s: float = 30.0  # QUIC's usual idle time-out (quinn's default): silence inside a frame
    unknown_frames_max: int = 64  # guess: in a row; a newer minor version mixes them with known ones
    streams_per_s: float = 500.0  # guess: far above what one application needs, far below what hurts
    streams_burst: int = 1_000  # guess: two seconds' worth
    streams_excess_max: int = 2_000  # guess: after so many streams over the rate the connection is closed

    # Strangers: peers whom the guard does not know. Shares are seconds of the processor per second
    stranger_processor_share: float = 0.1  # of one; guess: a thousand signatures a second
    stranger_processor_burst_s: float = 0.25  # guess
    strangers_processor_share: float = 0.25  # of all together; guess: the owner's own work has the rest
    strangers_processor_burst_s: float = 0.5  # guess
    stranger_frames_per_s: float = 200.0  # guess: an overlay's neighbour sends some ten
    stranger_frames_burst: int = 1_000  # guess
    stranger_stream_frames: int = (
        4  # what opening a stream counts as; measured: about 1 ms with its handshake
    )
    stranger_read_bytes: int = 8 << 10  # decoded in one step: 1,600 of the smallest frames, some ms
    frames_in_row_max: int = 8  # guess: frames that are there already, before others have their turn

    # Datagrams
    datagram_queue_max: int = 256  # guess: one second of voice at 4 ms; the oldest is dropped
    datagram_protocols_max: int = 16  # guess: protocols with datagrams on one connection

    # The guard's tables
    peers_tracked_max: int = 4_096  # guess: 4,096 buckets are below 1 MB

    def patient(self, seconds: float, rtt_s: float | None) -> float:
        """`seconds`, or more where the path's round trip is long."""
        return max(seconds, min(self.patience_round_trips * (rtt_s or 0.0), self.patience_s))
