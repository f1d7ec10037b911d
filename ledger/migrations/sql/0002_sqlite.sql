-- Hold with a reason, cancel, trace context, and queue messages that were parked. Never edited once released.
ALTER TABLE request ADD COLUMN hold_reason TEXT;

ALTER TABLE request ADD COLUMN cancelling SMALLINT DEFAULT '0' NOT NULL;

ALTER TABLE request ADD COLUMN traceparent TEXT;

CREATE TABLE parked_message (
    id TEXT NOT NULL,
    broker TEXT NOT NULL,
    stream TEXT NOT NULL,
    position TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    size BIGINT NOT NULL,
    body_ref TEXT NOT NULL,
    parked_at BIGINT NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT parked_once UNIQUE (broker, stream, position, body_ref)
);

CREATE INDEX parked_by_age ON parked_message (parked_at, id);
