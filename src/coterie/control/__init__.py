"""The local HTTP API of a running node: `server` in the node, `client` for whoever talks to it."""
