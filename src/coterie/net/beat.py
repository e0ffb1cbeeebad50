"""Moments at which two nodes dial each other at once, though they cannot talk: the beat of the wall clock.

A firewall lets in only who was called before, for `OPEN_S` after the last packet that went out. So two homes behind
firewalls (IPv6), or behind routers whose ports are known, get through when both dial within that time. Retries that
wait long end on multiples of `BEAT_S` times a power of two of unix time: whoever has waited longest, the two meet at
each of that one's moments.
"""

BEAT_S = 120  # seconds between attempts when contacts are gone: about 10 kB each (`relays.MISSED_MAX_S`)
DOUBLINGS_MAX = 3  # 16 min; guess: for contacts who have been away for long
OPEN_S = 30.0  # Linux, nf_conntrack_udp_timeout: shorter than what RFC 4787 (REQ-5) asks for; so much may clocks differ


def until_beat_s(now: float, wait_s: float) -> float:
    """Seconds from `now` (unix time) to the next shared moment, for who would wait `wait_s`.

    Who would wait less than half a beat waits that. The period is `BEAT_S`, doubled until it is `wait_s` or more,
    `DOUBLINGS_MAX` times at most.
    """
    if wait_s < BEAT_S / 2:
        return wait_s
    period = BEAT_S
    while period < wait_s and period < BEAT_S << DOUBLINGS_MAX:
        period *= 2
    return period - now % period
