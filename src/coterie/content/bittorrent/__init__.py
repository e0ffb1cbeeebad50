"""Torrents: magnet links, torrent files, and one session that moves their bytes."""
