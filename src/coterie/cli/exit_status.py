"""What programs learn from the end of a command; docs/exit-status.md."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INCOMPLETE = 3  # the result is there, and something is missing from it
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
