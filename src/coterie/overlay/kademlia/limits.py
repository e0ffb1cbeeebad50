"""Every bound and time of Kademlia, with its source.

"M&M" is Maymounkov and Mazieres, "Kademlia: A Peer-to-peer Information System Based on the XOR Metric", 2002;
"B&M" is Baumgart and Mies, "S/Kademlia: A Practicable Approach Towards Secure Key-Based Routing", 2007.
"""

import msgspec

HOUR_S = 3600.0


class KademliaLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and times (s) of one node. All nodes of a network need not agree on them, except on `k`, roughly."""

    # ---- lookup
    k: int = 20  # M&M 2.3: any k nodes are very unlikely to fail within an hour of each other
    alpha: int = 3  # M&M 2.3
    paths: int = 4  # B&M 4.4: disjoint paths; how many: our scenario kademlia-hostile
    doubtful: float = (
        0.45  # who likelier than not has left is passed over; measured in churn: 0.3 asks a fifth more
    )
    asked_max: int = 400  # peers asked by one lookup; guess: five times what one with 4 paths asks in churn
    candidates_max: int = 60  # kept by one path: 3 k; guess: a dead neighbourhood of twice k is survived
    lookups_max: int = 64  # of callers, at once; guess
    providers_found_max: int = 400  # in one lookup: k answers of k; more are lies or of no use
    deadline_s: float = 60.0  # of a lookup when the caller names none; guess: people give up earlier
    late_min_s: float = 0.1  # guess: below that, lines vary more than peers
    slow_min_s: float = 0.3  # guess: the round trip to the other side of the world
    slow_max_s: float = 1.5  # guess: a QUIC handshake through a relay
    timeout_s: float = 5.0  # guess: after this a request has failed; the transport says so earlier if it can
    requests_max: int = 1_000  # of ours under way

    # ---- table
    prefix_bits_max: int = 32  # contacts that share more bits share a bucket: enough for k * 2^32 nodes
    replacements_max: int = 20  # M&M 4.1 names no size; k: a whole bucket can be replaced
    failures_max: int = 5  # M&M 4.1: failed requests in a row, then a contact goes, replacement or not
    failures_replaced_max: int = 2  # guess: one may be bad luck; from then on a replacement takes the place
    per_network_bucket_max: int = 2  # peers of one network; py-libp2p's diversity limit has 2 of a /24
    per_network_table_max: int = 6  # guess: between that and a campus
    filled: int = (
        5  # contacts of a bucket that are enough for a newcomer: measured, a quarter of k costs no success
    )
    near_ratio: float = 0.5  # guess: a round trip below this part of the slowest one is worth a change
    near_every_s: float = 600.0  # guess: one such change a bucket
    near_max: int = 10  # k / 2: contacts chosen for proximity; the others stay chosen by age (M&M 2.4)

    # ---- upkeep
    upkeep_s: float = 120.0  # guess: how often we look what is due
    refresh_s: float = HOUR_S  # M&M 2.3: tRefresh
    probes_max: int = 64  # pings under way; guess
    bootstrap_max: int = 64  # peers known at the start that are tried
    upkeep_lookups_max: int = 2  # at once; guess: upkeep never crowds out what somebody waits for
    upkeep_queue_max: int = 500  # lookups of upkeep that wait; what is over comes up again at the next look

    # ---- records
    republish_s: float = HOUR_S  # M&M 2.5: tReplicate
    item_lifetime_s: float = (
        48 * HOUR_S
    )  # M&M 2.5 has tExpire = 24 h = the publisher's interval; here two of those
    own_item_s: float = 24 * HOUR_S  # M&M 2.5: tRepublish, of an item by its publisher
    own_provider_s: float = (
        HOUR_S  # as tReplicate: holders do not pass announcements on, so the announcer does
    )
    provider_lifetime_s: float = (
        3 * HOUR_S
    )  # guess: two lost announcements are survived, a dead provider is not kept
    cached_s: float = HOUR_S  # guess: of an item stored on the way by who has found it (M&M 2.3)
    lifetime_min_s: float = 60.0  # guess: what would be kept for less is not worth a place
    far_ratio: float = (
        2.0  # of the distance to our k-th neighbour: within it we keep a key for its whole life
    )
    providers_max: int = 20_000  # in all; guess: 5 MB
    providers_per_key_max: int = 64  # guess: a swarm needs a few dozen beginnings
    providers_per_peer_max: int = 1_000  # of one announcer; guess
    providers_per_answer_max: int = 20  # k
    items_max: int = 2_000  # guess: 3 MB
    items_per_peer_max: int = (
        500  # of one sender; a quarter: four hostile senders fill it, with keys near ours
    )
    own_max: int = 10_000  # keys that we provide and items that we publish

    # ---- those who ask us
    answers_per_peer_max: int = 300  # in one window; guess: joining a large network asks a neighbour far less
    window_s: float = 10.0
    askers_max: int = 10_000  # counted in one window; who is over it waits for the next
