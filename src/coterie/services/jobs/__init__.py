"""Work of apps that lasts: it survives restarts, and runs when it is wanted."""
