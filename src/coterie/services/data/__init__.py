"""What an app keeps on disk: records, a database, settings; with versions, a quota, and damage that stops nothing."""
