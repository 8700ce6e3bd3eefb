-- The foundation: cluster and trust, agents, submissions, tasks, attempts and their logs, presence, audit.
-- Expand/contract only from here on: a later file never breaks the server version before it.

create table cluster (
  one smallint primary key default 1 check (one = 1),
  id uuid not null,
  name text not null,
  -- AES-256-GCM of a known value: proves that a joining node's master key is this cluster's.
  key_check bytea not null,
  -- n of the node list's version; the database timeline is added when it is read.
  nodes_version bigint not null default 1,
  paused boolean not null default false,
  created_at timestamptz not null default clock_timestamp()
);

create table authority (
  id uuid primary key,
  kind text not null check (kind in ('agents', 'nodes')),
  state text not null check (state in ('next', 'current', 'retired')),
  certificate text not null,
  key_ciphertext bytea not null,
  created_at timestamptz not null default clock_timestamp()
);
create unique index authority_current on authority (kind) where state = 'current';

create table node (
  id uuid primary key,
  name text not null,
  status text not null default 'joined' check (status in ('joined', 'removed')),
  boot_id uuid not null,
  version text not null,
  addresses jsonb not null,
  draining boolean not null default false,
  task_cap integer not null default 1000,
  active integer not null default 0,
  pending integer not null default 0,
  sessions integer not null default 0,
  joined_at timestamptz not null default clock_timestamp(),
  started_at timestamptz not null default clock_timestamp(),
  heartbeat_at timestamptz not null default clock_timestamp()
);

create table node_certificate (
  thumbprint text primary key,
  node_id uuid not null,
  not_after timestamptz not null,
  created_at timestamptz not null default clock_timestamp()
);

create table agent (
  id uuid primary key,
  name text not null,
  labels jsonb not null default '{}',
  status text not null default 'active' check (status in ('active', 'quarantined', 'revoked', 'removed')),
  status_reason text not null default '',
  -- The boot pair of DESIGN 4.7; null until the first greeting.
  boot_counter bigint,
  boot_id uuid,
  journal_id uuid,
  retired_journals uuid[] not null default '{}',
  version text not null default '',
  host jsonb not null default '{}',
  capabilities jsonb not null default '[]',
  created_at timestamptz not null default clock_timestamp(),
  last_seen_at timestamptz,
  -- The last boot refused as superseded; refused again after 10 s it is a clone.
  refused_boot_id uuid,
  refused_at timestamptz
);
create unique index agent_name on agent (name) where status <> 'removed';
create index agent_labels on agent using gin (labels jsonb_path_ops);

create table agent_certificate (
  thumbprint text primary key,
  agent_id uuid not null references agent (id),
  status text not null default 'valid' check (status in ('valid', 'superseded', 'revoked')),
  spki_sha256 text not null,
  certificate text not null,
  not_after timestamptz not null,
  used_at timestamptz,
  created_at timestamptz not null default clock_timestamp()
);
create index agent_certificate_agent on agent_certificate (agent_id);

create table enrolment_token (
  id uuid primary key,
  secret_sha256 bytea not null,
  labels jsonb not null default '{}',
  replaces text,
  status text not null default 'unused' check (status in ('unused', 'used', 'revoked')),
  expires_at timestamptz not null,
  created_by text not null,
  created_at timestamptz not null default clock_timestamp(),
  used_at timestamptz,
  used_spki_sha256 text,
  agent_id uuid references agent (id)
);

create table api_key (
  id uuid primary key,
  name text not null,
  secret_sha256 bytea not null,
  scopes jsonb not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz not null default clock_timestamp()
);

create table submission (
  id uuid primary key,
  principal text not null,
  idempotency_key text not null,
  body_sha256 bytea not null,
  client_address text not null,
  task_count integer not null,
  created_at timestamptz not null default clock_timestamp(),
  unique (principal, idempotency_key)
);

create table task (
  id uuid primary key,
  submission_id uuid not null references submission (id),
  agent_id uuid not null,
  lane text not null,
  spec text not null,
  -- Of the spec, so that a cancel never has to read it: specs take up to 768 KiB, and jsonb refuses some JSON.
  grace_ms integer not null,
  expires_at timestamptz not null,
  unreachable_limit_ms bigint not null,
  created_at timestamptz not null default clock_timestamp()
);
create index task_submission on task (submission_id);
create index task_agent on task (agent_id, id desc);

create sequence attempt_queue_no;

create table attempt (
  id uuid primary key,
  task_id uuid not null,
  agent_id uuid not null,
  number integer not null default 1,
  lane text not null,
  rank smallint not null default 0 check (rank in (0, 1, 2, 3, 9)),
  state text not null default 'queued',
  reason text not null default '',
  band smallint not null default 2,
  queue_no bigint not null default nextval('attempt_queue_no'),
  offer_no integer not null default 0,
  journal_id uuid,
  offered_by uuid,
  offer_until timestamptz,
  -- Offers in a row that nobody answered: doubles the window, a refusal resets it.
  unanswered smallint not null default 0,
  cancel_requested boolean not null default false,
  home_node uuid,
  exit_code smallint,
  signal text,
  result jsonb,
  result_sha256 bytea,
  created_at timestamptz not null default clock_timestamp(),
  accepted_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  -- When it expires if it is still queued.
  expires_at timestamptz not null default 'infinity',
  unique (task_id, number)
) with (fillfactor = 70);
-- The claim reads these three and nothing else: queued per agent in order, offered per journal, cancels that wait.
create index attempt_queue on attempt (agent_id, lane, band, queue_no) where rank = 0;
create index attempt_offered on attempt (agent_id, journal_id) where rank = 1;
create index attempt_open on attempt (agent_id) where rank in (1, 2, 3);
create index attempt_cancel on attempt (agent_id) where cancel_requested and rank < 9;
create index attempt_expiry on attempt (expires_at) where rank = 0;
create index attempt_window on attempt (offer_until) where rank = 1;
create index attempt_feed on attempt (queue_no) where rank = 0;

-- How far each stream is stored. Narrow, so that log traffic never rewrites the attempt's wide row.
create table attempt_log (
  attempt_id uuid primary key,
  agent_id uuid not null,
  -- The home whose writes count; a lower one's change no row.
  home_no integer not null default 0,
  -- Set with rank 9: nothing is added to a final attempt's log.
  closed boolean not null default false,
  out_next bigint not null default 0,
  err_next bigint not null default 0
) with (fillfactor = 50);

-- Attempt ids are UUIDv7, so ranges of them are ranges of creation time: retention drops whole partitions.
create table log_chunk (
  attempt_id uuid not null,
  stream smallint not null,
  start_offset bigint not null,
  length bigint not null,
  -- null: these bytes were omitted on the agent.
  content bytea,
  primary key (attempt_id, stream, start_offset)
) partition by range (attempt_id);
alter table log_chunk alter column content set storage external;
create table log_chunk_other partition of log_chunk default;

create table late_result (
  attempt_id uuid not null,
  result_sha256 bytea not null,
  result jsonb not null,
  received_at timestamptz not null default clock_timestamp(),
  primary key (attempt_id, result_sha256)
);

create table presence (
  agent_id uuid not null,
  node_id uuid not null,
  node_boot_id uuid not null,
  since timestamptz not null default clock_timestamp(),
  round_trip_us integer,
  primary key (agent_id, node_id)
);
create index presence_node on presence (node_id);

create table audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  address text not null,
  action text not null,
  target text not null,
  detail jsonb not null default '{}'
);
