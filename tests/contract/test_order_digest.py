"""The order's digest is what docs/formats.md says, and shows what docs/privacy.md says."""

import hashlib
import hmac
import json

from ledger.schema import event_body
from ledger.states import Kind
from tests.support.ledger_memos import Memos
from tests.support.ledger_world import KEYS

IDS = [f"m{n}" for n in range(7)]


def frame(domain, *parts):
    return domain.encode() + b"\n" + b"".join(len(part).to_bytes(8) + part for part in parts)


def text(value):
    return b"s" + value.encode()


def number(value):
    return b"i" + str(value).encode()


def keyed(message):
    return hmac.digest(KEYS.order, message, "sha256")


def digest(request_id, kind, lists, size):
    """Make it of the order key and the lists of the chunks alone."""
    chain = b""
    for n, ids in enumerate(lists):
        parts = (
            *(text(request_id), text("shop"), text(kind), number(1), number(n), b"-"),
            *(number(n * size), b"-", text(json.dumps(ids, separators=(",", ":")))),
        )
        mac = keyed(frame("expunge/chunk/v1", *parts))
        chain = hashlib.sha256(chain + mac).digest()
    number_of_lists = str(len(lists)).encode()
    return keyed(frame("expunge/closing/v1", request_id.encode(), number_of_lists, chain)).hex()


def recorded(world):
    bodies = [json.loads(bytes(row.payload)) for row in world.rows(event_body)]
    return {body["type"]: body["order_digest"] for body in bodies if "order_digest" in body}


def test_whoever_has_the_order_key_and_the_list_makes_the_same_digest_after_scrubbing(world):
    receipt = world.submit([*IDS, IDS[0]], chunk_size=3)
    world.run(Memos(IDS))
    world.clock.tick(86_400)
    assert world.ledger.scrub(redrive_days=0, row_days=0).scrubbed == (receipt.id,)
    own = digest(receipt.id, "memories", [IDS[:3], IDS[3:6], IDS[6:]], 3)
    assert recorded(world) == {"request.accepted": own, "request.finished": own}
    other = digest(receipt.id, "memories", [IDS[:3], IDS[3:6], ["m8"]], 3)
    assert own != other


def test_a_purges_digest_holds_nothing_of_its_user(world):
    receipt = world.submit(kind=Kind.USER, subject="alice")
    assert recorded(world)["request.accepted"] == digest(receipt.id, "user", [[]], 100)
