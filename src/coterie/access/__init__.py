"""MAY: who is allowed to do what: the policy, and grants."""
