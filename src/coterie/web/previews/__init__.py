"""Files of others in the browser: under an origin of their own, and never so that they can run."""
