"""Internet access of a computer for those whom its owner names: proxies here, connections there."""
