"""Films and music watched and heard while they arrive, in the media player that people have."""
