"""Protocols at the sizes and under the faults that no laboratory has: each module here is one scenario.

A new one is a module with a `SCENARIO` (see `frame.Scenario`) and its line below.
"""

MODULES = (
    "circles",
    "flood_speed",
    "kademlia_abuse",
    "kademlia_hostile",
    "kademlia_lookup",
    "kademlia_million",
    "kademlia_records",
    "broadcast",
    "broadcast_hostile",
    "real_nodes",
    "search_replication",
    "search_hostile",
    "swarm",
)
