"""ORGANISE: who knows whom, who tells whom: overlays as pure cores."""
