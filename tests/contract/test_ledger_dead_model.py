"""Redrives and discards among any sequence of calls, holds, releases and cancels."""

from contextlib import contextmanager
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from ledger import redrive_chunks
from ledger.errors import ConflictError
from ledger.schema import chunk
from ledger.states import FINAL_REQUEST_STATES, ChunkState
from tests.contract.test_ledger_control_model import WHY, ControlModel


class DeadModel(ControlModel):
    """As the control model, and what was given up is sent again or given up for good."""

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), steps=st.sampled_from([None, None, 0, 1]))
    def redrive(self, data, steps):
        request_id = data.draw(st.sampled_from(sorted(self.orders)))
        before = self.world.view(request_id)
        dead = self.dead(request_id)
        try:
            with _killed_after(steps):
                self.world.ledger.redrive(request_id, **WHY)
        except _KilledError:
            pass
        except ConflictError:
            final = before.state in FINAL_REQUEST_STATES
            assert not final or before.cancelling or not dead
            assert self.world.view(request_id) == before
            return
        after = self.world.view(request_id)
        if before.state in FINAL_REQUEST_STATES:
            self.held.discard(request_id)
            assert dead
            assert not before.cancelling
            assert after.generation == before.generation + 1
            assert (after.state, after.result, after.finished_at) == ("open", None, None)

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def discard(self, data):
        request_id = data.draw(st.sampled_from(sorted(self.orders)))
        before = self.world.view(request_id)
        had = bool(self.dead(request_id))
        assert self.world.ledger.discard(request_id, **WHY) is had
        assert self.world.view(request_id) == before
        assert not self.dead(request_id)

    def dead(self, request_id):
        chunks = self.world.chunks(request_id, ChunkState.DEAD)
        return [one for one in chunks if not one.discarded]

    def end_all(self):
        """As above; a redrive that was killed is carried on by the sweep, after a while."""
        self.world.clock.tick(60)
        super().end_all()
        for one in self.world.rows(chunk):
            assert one.state in {"done", "split", "dead", "cancelled"}
            view = self.world.view(one.request_id)
            # Whatever was dead before the last redrive was made due by it, unless given up.
            behind = one.state == "dead" and one.generation < view.generation
            assert not behind or one.discarded or view.cancelling


class _KilledError(Exception):
    pass


@contextmanager
def _killed_after(steps):
    """The walk over the chunks dies after so many of its transactions, of three chunks each."""
    left = [steps]
    run = redrive_chunks._Step.run

    def dying(self, turns):
        if left[0] == 0:
            raise _KilledError
        left[0] = left[0] and left[0] - 1
        return run(self, turns)

    with (
        patch.object(redrive_chunks._Step, "run", dying),
        patch("ledger.redrive_chunks.CHUNKS_AT_ONCE", 3),
    ):
        yield


def test_any_sequence_with_redrives_and_discards_keeps_the_books_right_and_ends(worlds):
    run_state_machine_as_test(
        lambda: DeadModel(worlds),  # type: ignore[arg-type]
        settings=settings(
            max_examples=15 if worlds.kind == "sqlite" else 4,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
