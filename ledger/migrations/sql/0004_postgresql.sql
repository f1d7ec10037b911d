-- Walks, leftovers, disputes and second looks. Never edited once released.
ALTER TABLE request ADD COLUMN include_later SMALLINT DEFAULT '0' NOT NULL;

ALTER TABLE request ADD COLUMN later BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE request ADD COLUMN leftovers BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE request ADD COLUMN not_checked TEXT;

ALTER TABLE request ADD COLUMN drawn BIGINT;

ALTER TABLE request ADD COLUMN by_id SMALLINT DEFAULT '0' NOT NULL;

ALTER TABLE request ADD COLUMN second_look TEXT CONSTRAINT second_look_known CHECK (second_look IN ('looking', 'absent', 'found', 'unknown'));

ALTER TABLE request ADD COLUMN follows TEXT;

ALTER TABLE chunk ADD COLUMN leftover SMALLINT DEFAULT '0' NOT NULL;

ALTER TABLE chunk ADD COLUMN disputed TEXT CONSTRAINT dispute_known CHECK (disputed IN ('refused', 'unknown'));

ALTER TABLE readback ADD COLUMN control SMALLINT DEFAULT '0' NOT NULL;

CREATE INDEX request_second_look ON request (second_look_at) WHERE second_look_at IS NOT NULL AND second_look IS NULL;

CREATE INDEX request_looking ON request (id) WHERE second_look = 'looking';
