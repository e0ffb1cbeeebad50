"""Circles of people: members, roles, devices; how their logs spread, and how a person comes back from paper."""
