"""The one table of states: every order in every state."""

import pytest

from coterie.errors import UsageError
from coterie.transfer.states import UNDER_WAY, Order, TransferState, after

S = TransferState


@pytest.mark.parametrize("state", UNDER_WAY)
def test_what_is_under_way_is_paused_and_goes_on_as_it_is(state: TransferState) -> None:
    assert after(Order.PAUSE, state, S.RUNNING) == S.PAUSED
    assert after(Order.RESUME, state, S.RUNNING) == state


@pytest.mark.parametrize("begins_as", UNDER_WAY)
@pytest.mark.parametrize("state", [S.PAUSED, S.FAILED])
def test_what_stopped_begins_again_as_its_kind_does(state: TransferState, begins_as: TransferState) -> None:
    assert after(Order.RESUME, state, begins_as) == begins_as
    assert after(Order.PAUSE, state, begins_as) == state


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("state", [S.DONE, "of-a-later-version"])
def test_what_is_done_or_not_known_takes_no_order(order: Order, state: str) -> None:
    with pytest.raises(UsageError, match=state):
        after(order, state, S.RUNNING)


def test_every_state_is_in_the_table_but_the_last_one() -> None:
    for order in Order:
        for state in set(S) - {S.DONE}:
            after(order, state, S.RUNNING)
