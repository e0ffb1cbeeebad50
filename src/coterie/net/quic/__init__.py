"""QUIC between authenticated peers, through the `iroh` wheel."""
