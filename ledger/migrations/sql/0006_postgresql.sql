-- Certificates, scrubbing, epochs of pseudonym keys, alarms. Never edited once released.
ALTER TABLE request ADD COLUMN key_epoch INTEGER DEFAULT '0' NOT NULL;

ALTER TABLE request ADD COLUMN tampered SMALLINT DEFAULT '0' NOT NULL;

ALTER TABLE request ADD COLUMN scrub TEXT CONSTRAINT scrub_known CHECK (scrub IN ('begun', 'done'));

ALTER TABLE request ADD COLUMN scrubbed_at BIGINT;

ALTER TABLE request ADD COLUMN bare SMALLINT DEFAULT '0' NOT NULL;

ALTER TABLE request ADD CONSTRAINT scrubbed_has_no_name CHECK (scrub IS NULL OR (finished_at IS NOT NULL AND subject IS NULL));

CREATE TABLE key_epoch (
    no INTEGER NOT NULL,
    began_at BIGINT NOT NULL,
    destroyed_at BIGINT,
    PRIMARY KEY (no)
);

CREATE INDEX request_of_subject ON request (subject_ref) WHERE subject_ref IS NOT NULL;

CREATE INDEX request_to_scrub ON request (finished_at) WHERE scrubbed_at IS NULL AND finished_at IS NOT NULL;

CREATE INDEX request_to_strip ON request (finished_at) WHERE bare = 0 AND scrubbed_at IS NOT NULL;

CREATE INDEX request_tampered ON request (id) WHERE tampered = 1;
