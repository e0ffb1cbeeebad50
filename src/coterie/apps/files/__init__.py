"""Files and folders from one computer to another."""
