-- Formats 1 and 2. Every key of what belongs to an account begins with the account, so that tables can be distributed by it.
-- Text is compared by bytes, as everything above does.

-- Small, the same everywhere.

CREATE TABLE ledger (
    name text COLLATE "C" PRIMARY KEY,
    value text COLLATE "C" NOT NULL
);

-- What changed in the catalog, in order: accounts, keys, meters, rates, limits and grants are a fold of it.
CREATE TABLE catalog_entry (
    entry bigint PRIMARY KEY,
    recorded bigint NOT NULL,
    header bytea NOT NULL,
    link bytea NOT NULL
);

CREATE TABLE key_use (
    key text COLLATE "C" PRIMARY KEY,
    at bigint NOT NULL
);

-- Of accounts.

-- The end of an account's log; whoever adds to that has this row locked until it is durable.
-- sequence: that of the last event. series: the number of the last series. clock: the latest by which holds were looked at.
CREATE TABLE head (
    account bigint PRIMARY KEY,
    entries bigint NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    sequence bigint NOT NULL DEFAULT 0,
    recorded bigint NOT NULL DEFAULT 0,
    series bigint NOT NULL DEFAULT 0,
    clock bigint NOT NULL DEFAULT 0,
    link bytea NOT NULL DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000'
);

-- Which events are kept: keyed fingerprints of (source, id), and where the event lies.
CREATE TABLE identity (
    account bigint NOT NULL,
    fingerprint bigint NOT NULL,
    number bigint NOT NULL,
    place integer NOT NULL,
    PRIMARY KEY (account, fingerprint)
);

-- The log of each account. position counts its entries; number is one for all that a transaction wrote.
CREATE TABLE entry (
    account bigint NOT NULL,
    number bigint NOT NULL,
    position bigint NOT NULL,
    kind smallint NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    count bigint NOT NULL,
    recorded bigint NOT NULL,
    time_min bigint NOT NULL,
    time_max bigint NOT NULL,
    header bytea NOT NULL,
    link bytea NOT NULL,
    PRIMARY KEY (account, number)
);
CREATE UNIQUE INDEX entry_position ON entry (account, position);
CREATE INDEX entry_of_first ON entry (account, first) WHERE kind IN (1, 4);
CREATE INDEX entry_of_last ON entry (account, last) WHERE kind IN (1, 4);
CREATE INDEX entry_first ON entry (first) WHERE kind = 1;
CREATE INDEX entry_last ON entry (last) WHERE kind = 1;
CREATE INDEX entry_time ON entry (account, time_min, time_max) WHERE kind IN (1, 4);

-- The events of an entry as they were sent, packed; place is that of the first one in its entry.
CREATE TABLE frame (
    account bigint NOT NULL,
    number bigint NOT NULL,
    place integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (account, number, place)
);

-- The times and postings of an entry, packed.
CREATE TABLE posting (
    account bigint NOT NULL,
    number bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (account, number)
);

CREATE TABLE series (
    account bigint NOT NULL,
    number bigint NOT NULL,
    digest bytea NOT NULL,
    meter text COLLATE "C" NOT NULL,
    meter_version bigint NOT NULL,
    labels text COLLATE "C" NOT NULL,
    PRIMARY KEY (account, number)
);
CREATE UNIQUE INDEX series_digest ON series (account, digest);

-- Up to which of its entries the runs of an account count; what came later is summed up from its postings.
CREATE TABLE folded (
    account bigint PRIMARY KEY,
    position bigint NOT NULL
);

CREATE TABLE run (
    account bigint NOT NULL,
    meter text COLLATE "C" NOT NULL,
    grain smallint NOT NULL,
    period bigint NOT NULL,
    number bigint NOT NULL,
    cells integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (account, meter, grain, period, number)
);

-- Up to where a replay has counted the events of an account.
CREATE TABLE replayed (
    account bigint NOT NULL,
    epoch bigint NOT NULL,
    replay text COLLATE "C" NOT NULL,
    through bigint NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (account, epoch, replay)
);

-- Resources; digest is that of space, kind and id, which together may be too long for a key.
CREATE TABLE resource (
    account bigint NOT NULL,
    digest bytea NOT NULL,
    space text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    time bigint,
    source text COLLATE "C",
    event text COLLATE "C",
    ends bigint[] NOT NULL,
    state text COLLATE "C" NOT NULL,
    newest bigint NOT NULL,
    PRIMARY KEY (account, digest)
);
CREATE INDEX resource_order ON resource (account, space, kind, left(id, 128));
CREATE INDEX resource_newest ON resource (account, space, newest);

CREATE TABLE space (
    account bigint NOT NULL,
    space text COLLATE "C" NOT NULL,
    newest bigint,
    closes bigint[] NOT NULL,
    body text COLLATE "C" NOT NULL,
    is_shown boolean NOT NULL,
    PRIMARY KEY (account, space)
);

CREATE TABLE counted_once (
    account bigint NOT NULL,
    digest bytea NOT NULL,
    meter text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    space text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    PRIMARY KEY (account, digest, meter, epoch)
);

-- digest is that of source and event.
CREATE TABLE record (
    account bigint NOT NULL,
    meter text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    time bigint NOT NULL,
    digest bytea NOT NULL,
    source text COLLATE "C" NOT NULL,
    event text COLLATE "C" NOT NULL,
    space text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    PRIMARY KEY (account, meter, epoch, time, digest)
);

-- Holds. ends is the deadline for as long as counters have what is held.
CREATE TABLE hold (
    account bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    ends bigint,
    body text COLLATE "C" NOT NULL,
    PRIMARY KEY (account, id)
);
CREATE INDEX hold_id ON hold (id);
CREATE INDEX hold_ends ON hold (account, ends) WHERE ends IS NOT NULL;

-- Thresholds of limits that were crossed. position is that of the entry which says so, place that of the crossing in it.
CREATE TABLE crossing (
    account bigint NOT NULL,
    limit_id text COLLATE "C" NOT NULL,
    threshold bigint NOT NULL,
    start bigint NOT NULL,
    position bigint NOT NULL,
    place integer NOT NULL,
    body text COLLATE "C" NOT NULL,
    PRIMARY KEY (account, limit_id, threshold, start)
);

-- What is used and held of limits in a period; a memory of what the log says. definition is what the limit counts.
CREATE TABLE counter (
    account bigint NOT NULL,
    limit_id text COLLATE "C" NOT NULL,
    definition text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    ends bigint NOT NULL,
    used numeric NOT NULL,
    held numeric NOT NULL,
    has_later boolean NOT NULL,
    PRIMARY KEY (account, limit_id)
);

-- Numbers: of entries, which are kept in no order; of series and events, which are given with the account's head locked.
CREATE SEQUENCE entry_number;
CREATE SEQUENCE series_number;
CREATE SEQUENCE event_sequence;

-- So many sequences in a row; nobody gets one in between.
CREATE FUNCTION give_sequences(count bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    first bigint;
BEGIN
    PERFORM pg_advisory_lock(x'746c6c7905'::bigint);
    first := nextval('event_sequence');
    PERFORM setval('event_sequence', first + count - 1);
    PERFORM pg_advisory_unlock(x'746c6c7905'::bigint);
    RETURN first;
END
$$;
