"""MOVE: the engine that gives and fetches content: sessions, sources, partial content, limits, meeting points."""
