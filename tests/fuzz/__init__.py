"""Every decoder with mutated samples: `make fuzz`, and for seconds as a part of the tests."""
