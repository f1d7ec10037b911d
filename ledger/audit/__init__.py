"""The log that proves the record: a Merkle tree over the events, with signed checkpoints.

`merkle` is the mathematics, `notes` the format that is signed, `stored` the tree in the ledger,
`sealing` what makes it grow, `verifying` what finds out whether anybody changed it.
"""
