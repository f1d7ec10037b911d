-- The tables of the first release. Never edited once released.
CREATE TABLE account (
    name TEXT NOT NULL,
    interval_ns BIGINT NOT NULL,
    next_slot_ns BIGINT DEFAULT '0' NOT NULL,
    paused_until_ns BIGINT DEFAULT '0' NOT NULL,
    pause_reason TEXT,
    strikes BIGINT DEFAULT '0' NOT NULL,
    booked BIGINT DEFAULT '0' NOT NULL,
    read_credit BIGINT DEFAULT '0' NOT NULL,
    erasure_tag BIGINT DEFAULT '0' NOT NULL,
    bulk_tag BIGINT DEFAULT '0' NOT NULL,
    claimed_ns BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (name),
    CONSTRAINT interval_positive CHECK (interval_ns > 0)
);

CREATE TABLE attempt (
    claim TEXT NOT NULL,
    place INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    chunk_id BIGINT,
    readback_id BIGINT,
    fence BIGINT NOT NULL,
    call TEXT NOT NULL,
    worker TEXT NOT NULL,
    slot_ns BIGINT NOT NULL,
    claimed_at BIGINT NOT NULL,
    outcome TEXT,
    reason TEXT,
    http_status INTEGER,
    code BIGINT,
    took_us BIGINT,
    stale SMALLINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (claim, place),
    CONSTRAINT call_known CHECK (call IN ('delete', 'list', 'read')),
    CONSTRAINT attempt_of_one_thing CHECK ((chunk_id IS NULL) <> (readback_id IS NULL))
);

CREATE INDEX attempt_of_request ON attempt (request_id);

CREATE INDEX attempt_open ON attempt (request_id, fence) WHERE outcome IS NULL;

CREATE TABLE clock (
    id SMALLINT NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT one_row CHECK (id = 1)
);

CREATE TABLE event (
    id TEXT NOT NULL,
    request TEXT,
    type TEXT NOT NULL,
    leaf_hash BLOB NOT NULL,
    PRIMARY KEY (id)
);

CREATE INDEX event_of_request ON event (request);

CREATE TABLE heartbeat (
    process TEXT NOT NULL,
    role TEXT NOT NULL,
    release TEXT NOT NULL,
    beat_ns BIGINT NOT NULL,
    beat_at BIGINT NOT NULL,
    PRIMARY KEY (process)
);

CREATE TABLE lease (
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    until_ns BIGINT NOT NULL,
    token BIGINT NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE event_body (
    event TEXT NOT NULL,
    payload BLOB NOT NULL,
    salt BLOB NOT NULL,
    PRIMARY KEY (event),
    FOREIGN KEY(event) REFERENCES event (id)
);

CREATE TABLE leaf (
    idx INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (idx),
    UNIQUE (event),
    FOREIGN KEY(event) REFERENCES event (id)
);

CREATE TABLE project (
    name TEXT NOT NULL,
    account TEXT NOT NULL,
    paused SMALLINT DEFAULT '0' NOT NULL,
    pause_reason TEXT,
    paused_at BIGINT,
    erasure_tail BIGINT DEFAULT '0' NOT NULL,
    bulk_tail BIGINT DEFAULT '0' NOT NULL,
    failures BIGINT DEFAULT '0' NOT NULL,
    open_until_ns BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (name),
    CONSTRAINT pause_has_reason CHECK ((paused = 1) = (pause_reason IS NOT NULL)),
    FOREIGN KEY(account) REFERENCES account (name)
);

CREATE TABLE request (
    id TEXT NOT NULL,
    project TEXT NOT NULL,
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    lane TEXT NOT NULL,
    state TEXT NOT NULL,
    generation INTEGER DEFAULT '1' NOT NULL,
    verify TEXT NOT NULL,
    verify_now TEXT NOT NULL,
    result TEXT,
    certainty TEXT,
    reason TEXT,
    principal TEXT NOT NULL,
    subject TEXT,
    subject_ref TEXT,
    idempotency_ref TEXT,
    fingerprint TEXT NOT NULL,
    salt BLOB NOT NULL,
    header_mac BLOB NOT NULL,
    closing_mac BLOB,
    chunk_size INTEGER NOT NULL,
    chunks BIGINT DEFAULT '0' NOT NULL,
    next_no BIGINT DEFAULT '0' NOT NULL,
    requested BIGINT DEFAULT '0' NOT NULL,
    unique_ids BIGINT DEFAULT '0' NOT NULL,
    pending BIGINT DEFAULT '0' NOT NULL,
    acknowledged BIGINT DEFAULT '0' NOT NULL,
    verified_absent BIGINT DEFAULT '0' NOT NULL,
    already_absent BIGINT DEFAULT '0' NOT NULL,
    still_present BIGINT DEFAULT '0' NOT NULL,
    refused BIGINT DEFAULT '0' NOT NULL,
    unknown BIGINT DEFAULT '0' NOT NULL,
    cancelled BIGINT DEFAULT '0' NOT NULL,
    attempts BIGINT DEFAULT '0' NOT NULL,
    retried BIGINT DEFAULT '0' NOT NULL,
    held SMALLINT DEFAULT '0' NOT NULL,
    releasing SMALLINT DEFAULT '0' NOT NULL,
    urgency INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    touched_at BIGINT NOT NULL,
    submitted_at BIGINT NOT NULL,
    due_at BIGINT,
    not_before BIGINT,
    finished_at BIGINT,
    second_look_at BIGINT,
    PRIMARY KEY (id),
    CONSTRAINT one_request_per_key UNIQUE (project, idempotency_ref),
    CONSTRAINT kind_known CHECK (kind IS NULL OR kind IN ('memories', 'user', 'agent')),
    CONSTRAINT lane_known CHECK (lane IS NULL OR lane IN ('erasure', 'bulk')),
    CONSTRAINT state_known CHECK (state IS NULL OR state IN ('receiving', 'scheduled', 'open', 'verifying', 'complete', 'partial', 'failed', 'cancelled')),
    CONSTRAINT result_known CHECK (result IS NULL OR result IN ('complete', 'complete_with_already_absent', 'partial', 'failed', 'cancelled')),
    CONSTRAINT certainty_known CHECK (certainty IS NULL OR certainty IN ('acknowledged', 'verified', 'sampled', 'still_present', 'unverifiable')),
    CONSTRAINT final_has_end CHECK ((finished_at IS NULL) = (state NOT IN ('complete', 'partial', 'failed', 'cancelled'))),
    CONSTRAINT end_has_result CHECK ((finished_at IS NULL) = (result IS NULL)),
    CONSTRAINT counts_add_up CHECK (state = 'receiving' OR unique_ids = pending + acknowledged + verified_absent + already_absent + still_present + refused + unknown + cancelled),
    CONSTRAINT counts_not_negative CHECK (pending >= 0 AND acknowledged >= 0 AND verified_absent >= 0 AND already_absent >= 0 AND still_present >= 0 AND refused >= 0 AND unknown >= 0 AND cancelled >= 0 AND requested >= unique_ids),
    CONSTRAINT closed_has_mac CHECK (state = 'receiving' OR closing_mac IS NOT NULL OR state = 'cancelled'),
    CONSTRAINT final_has_nothing_pending CHECK (pending = 0 OR finished_at IS NULL),
    FOREIGN KEY(project) REFERENCES project (name)
);

CREATE INDEX request_by_age ON request (created_at, id);

CREATE INDEX request_unfinished ON request (state, touched_at) WHERE finished_at IS NULL;

CREATE TABLE chunk (
    id INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    no BIGINT NOT NULL,
    parent BIGINT,
    account TEXT NOT NULL,
    project TEXT NOT NULL,
    lane TEXT NOT NULL,
    urgency INTEGER NOT NULL,
    tag BIGINT NOT NULL,
    state TEXT NOT NULL,
    ids TEXT NOT NULL,
    n INTEGER NOT NULL,
    first BIGINT NOT NULL,
    places TEXT,
    mac BLOB NOT NULL,
    due_ns BIGINT DEFAULT '0' NOT NULL,
    lease_until_ns BIGINT DEFAULT '0' NOT NULL,
    fence BIGINT DEFAULT '0' NOT NULL,
    burnt BIGINT DEFAULT '0' NOT NULL,
    doubtful SMALLINT DEFAULT '0' NOT NULL,
    sightings BIGINT DEFAULT '0' NOT NULL,
    was_absent SMALLINT DEFAULT '0' NOT NULL,
    reading SMALLINT DEFAULT '0' NOT NULL,
    last_reason TEXT,
    PRIMARY KEY (id),
    CONSTRAINT chunk_number_once UNIQUE (request_id, no),
    CONSTRAINT state_known CHECK (state IS NULL OR state IN ('due', 'leased', 'delivered', 'done', 'split', 'dead', 'cancelled')),
    CONSTRAINT chunk_not_empty CHECK (n > 0),
    CONSTRAINT lease_only_when_leased CHECK ((state = 'leased') = (lease_until_ns > 0)),
    FOREIGN KEY(request_id) REFERENCES request (id)
);

CREATE INDEX chunk_leased ON chunk (lease_until_ns) WHERE state = 'leased';

CREATE INDEX chunk_of_request ON chunk (request_id, state, no);

CREATE INDEX chunk_ready ON chunk (account, project, lane, urgency, tag) WHERE state = 'due' AND due_ns = 0;

CREATE INDEX chunk_waiting ON chunk (due_ns) WHERE state = 'due' AND due_ns > 0;

CREATE TABLE readback (
    id INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    chunk_id BIGINT,
    account TEXT NOT NULL,
    project TEXT NOT NULL,
    lane TEXT NOT NULL,
    urgency INTEGER NOT NULL,
    kind TEXT NOT NULL,
    purpose TEXT NOT NULL,
    item INTEGER,
    page INTEGER DEFAULT '1' NOT NULL,
    seen TEXT,
    state TEXT NOT NULL,
    sight TEXT,
    due_ns BIGINT DEFAULT '0' NOT NULL,
    lease_until_ns BIGINT DEFAULT '0' NOT NULL,
    fence BIGINT DEFAULT '0' NOT NULL,
    burnt BIGINT DEFAULT '0' NOT NULL,
    last_reason TEXT,
    PRIMARY KEY (id),
    CONSTRAINT readback_kind_known CHECK (kind IN ('list', 'id')),
    CONSTRAINT readback_purpose_known CHECK (purpose IN ('verify', 'probe')),
    CONSTRAINT readback_state_known CHECK (state IN ('due', 'leased', 'done')),
    CONSTRAINT readback_names_its_id CHECK ((kind = 'id') = (item IS NOT NULL)),
    CONSTRAINT done_has_sight CHECK ((state = 'done') = (sight IS NOT NULL)),
    CONSTRAINT sight_known CHECK (sight IS NULL OR sight IN ('absent', 'present', 'unknown')),
    FOREIGN KEY(request_id) REFERENCES request (id)
);

CREATE INDEX readback_leased ON readback (lease_until_ns) WHERE state = 'leased';

CREATE INDEX readback_of_request ON readback (request_id, state);

CREATE INDEX readback_ready ON readback (account, project, lane, urgency, due_ns) WHERE state = 'due';

CREATE INDEX readback_waiting ON readback (due_ns) WHERE state = 'due';
