-- Attempts a person gave up lately: for a while their agents are asked to cancel them, like those of a cancel, through
-- whichever node has a session. A narrow table of its own, for an index on all attempts would take long to build.
-- Only adds: the server version before this one neither reads nor writes it.

create table abandoned_attempt (
  attempt_id uuid primary key,
  agent_id uuid not null,
  abandoned_at timestamptz not null default clock_timestamp()
);
create index abandoned_attempt_agent on abandoned_attempt (agent_id);
create index abandoned_attempt_age on abandoned_attempt (abandoned_at);
