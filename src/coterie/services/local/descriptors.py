"""File descriptors: each connection takes one, and systems begin with few."""

import sys

WANTED = 16_384  # 2,000 connections, each with two sockets, four times over


def raise_limit() -> None:
    """Let this process open as many files as the system allows without asking, up to WANTED."""
    if sys.platform == "win32":
        return  # has no such limit
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
