"""Large transfers beside QUIC: TLS connections that carry bulk bytes one way, in threads."""
