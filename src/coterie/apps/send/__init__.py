"""Files and folders for somebody: offered, taken or declined, fetched when both are there."""
