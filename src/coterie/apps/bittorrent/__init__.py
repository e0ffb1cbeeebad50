"""BitTorrent: magnet links and torrent files fetched, shares given to its programs too."""
