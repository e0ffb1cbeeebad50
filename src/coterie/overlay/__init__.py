"""How peers organise themselves: pure cores of structured and unstructured overlays."""
