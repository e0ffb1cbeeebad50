"""What a computer offers to another, of every kind, in one list; docs/protocol/directory.md."""
