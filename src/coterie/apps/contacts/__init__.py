"""People and their computers that know each other, and how two of them meet."""
