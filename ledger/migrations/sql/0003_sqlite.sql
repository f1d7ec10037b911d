-- Pauses by people, breakers, hunts for unknown ids, dead letters. Never edited once released.
ALTER TABLE account ADD COLUMN paused SMALLINT DEFAULT '0' NOT NULL;

ALTER TABLE account ADD COLUMN paused_at BIGINT;

ALTER TABLE account ADD COLUMN stop_reason TEXT CONSTRAINT stop_has_reason CHECK ((paused = 1) = (stop_reason IS NOT NULL));

ALTER TABLE account ADD COLUMN halted_ns BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE project ADD COLUMN halted_ns BIGINT DEFAULT '0' NOT NULL;

ALTER TABLE project ADD COLUMN broken_at BIGINT;

ALTER TABLE project ADD COLUMN break_reason TEXT CONSTRAINT break_has_reason CHECK ((broken_at IS NULL) = (break_reason IS NULL));

ALTER TABLE chunk ADD COLUMN hunt BIGINT;

ALTER TABLE chunk ADD COLUMN waits_on BIGINT;

ALTER TABLE chunk ADD COLUMN discarded SMALLINT DEFAULT '0' NOT NULL;

CREATE INDEX chunk_hunting ON chunk (request_id, hunt) WHERE waits_on IS NOT NULL;

CREATE INDEX chunk_dead ON chunk (project, request_id, no) WHERE state = 'dead' AND discarded = 0;

CREATE INDEX request_of_project ON request (project, kind, created_at);
