-- The log that proves the record: its tree, its checkpoints, and what keeps them as they are. Never
-- edited once released. `leaf` was empty until now: nothing sealed before this release.
DROP TABLE leaf;

CREATE TABLE unsealed (
    seq INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (seq)
);

CREATE TABLE leaf (
    idx INTEGER NOT NULL,
    event TEXT NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (idx),
    UNIQUE (event),
    FOREIGN KEY(event) REFERENCES event (id)
);

CREATE TABLE subtree (
    level SMALLINT NOT NULL,
    idx INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (level, idx)
);

CREATE TABLE origin (
    no INTEGER NOT NULL,
    name TEXT NOT NULL,
    size BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    PRIMARY KEY (no),
    UNIQUE (name)
);

CREATE TABLE checkpoint (
    no INTEGER NOT NULL,
    origin TEXT NOT NULL,
    size BIGINT NOT NULL,
    root BLOB NOT NULL,
    note TEXT NOT NULL,
    signed_at BIGINT NOT NULL,
    PRIMARY KEY (no),
    CONSTRAINT one_root_per_size UNIQUE (origin, size),
    FOREIGN KEY(origin) REFERENCES origin (name)
);

CREATE TABLE pruning (
    below INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (below),
    FOREIGN KEY(event) REFERENCES event (id)
);

INSERT INTO unsealed (event) SELECT id FROM event ORDER BY id;

CREATE TRIGGER event_unsealed AFTER INSERT ON event BEGIN INSERT INTO unsealed (event) VALUES (NEW.id); END;

-- REPLACE deletes the old row without asking the triggers of deletion, so insertion is guarded too.
CREATE TRIGGER event_no_update BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER event_no_delete BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER event_no_replace BEFORE INSERT ON event WHEN EXISTS (SELECT 1 FROM event WHERE id = NEW.id OR rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER event_body_no_update BEFORE UPDATE ON event_body BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER event_body_no_replace BEFORE INSERT ON event_body WHEN EXISTS (SELECT 1 FROM event_body WHERE event = NEW.event OR rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER leaf_no_update BEFORE UPDATE ON leaf BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER leaf_no_delete BEFORE DELETE ON leaf BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER leaf_no_replace BEFORE INSERT ON leaf WHEN EXISTS (SELECT 1 FROM leaf WHERE idx = NEW.idx OR event = NEW.event) BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER subtree_no_update BEFORE UPDATE ON subtree BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER subtree_no_delete BEFORE DELETE ON subtree BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER subtree_no_replace BEFORE INSERT ON subtree WHEN EXISTS (SELECT 1 FROM subtree WHERE (level = NEW.level AND idx = NEW.idx) OR rowid = NEW.rowid) BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER origin_no_update BEFORE UPDATE ON origin BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER origin_no_delete BEFORE DELETE ON origin BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER origin_no_replace BEFORE INSERT ON origin WHEN EXISTS (SELECT 1 FROM origin WHERE no = NEW.no OR name = NEW.name) BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER checkpoint_no_update BEFORE UPDATE ON checkpoint BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER checkpoint_no_delete BEFORE DELETE ON checkpoint BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER checkpoint_no_replace BEFORE INSERT ON checkpoint WHEN EXISTS (SELECT 1 FROM checkpoint WHERE no = NEW.no OR (origin = NEW.origin AND size = NEW.size)) BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER pruning_no_update BEFORE UPDATE ON pruning BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER pruning_no_delete BEFORE DELETE ON pruning BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER pruning_no_replace BEFORE INSERT ON pruning WHEN EXISTS (SELECT 1 FROM pruning WHERE below = NEW.below) BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

-- A body goes when its pruning is recorded, and what waits to be sealed when it is sealed.
CREATE TRIGGER event_body_no_delete BEFORE DELETE ON event_body WHEN NOT EXISTS (SELECT 1 FROM leaf JOIN pruning ON leaf.idx < pruning.below WHERE leaf.event = OLD.event) BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER unsealed_no_update BEFORE UPDATE ON unsealed BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER unsealed_no_replace BEFORE INSERT ON unsealed WHEN EXISTS (SELECT 1 FROM unsealed WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;

CREATE TRIGGER unsealed_no_delete BEFORE DELETE ON unsealed WHEN NOT EXISTS (SELECT 1 FROM leaf WHERE event = OLD.event) BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END;
