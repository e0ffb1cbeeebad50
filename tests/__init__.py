"""All tests, in the folders of the package."""

import pytest

pytest.register_assert_rewrite("coterie.testing")  # the suites say what was compared, as tests here do
