"""What every app is given, bound to its name: one room for each service, with its own bounds and quota."""
