"""The drive: WebDAV, what programs see of it, and writing."""
