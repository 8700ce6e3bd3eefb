-- What people set: a node's drain, the pause of an agent; which pause each node has heard of; why a node refused an agent.
-- Only adds: the server version before this one neither reads nor writes it.

-- Kept over restarts until it is lifted; `draining` is what the process does, this is what was asked of it.
alter table node add column drain text not null default 'none' check (drain in ('none', 'hand-over', 'finish'));
-- The cluster.settings_version that this boot of the node acts by.
alter table node add column settings_seen bigint not null default 0;
alter table cluster add column settings_version bigint not null default 1;
alter table agent add column paused boolean not null default false;

-- The last refusal per agent and node, so that "why is it missing there?" has an answer on every node.
create table refusal (
  agent_id uuid not null,
  node_id uuid not null,
  reason text not null,
  at timestamptz not null default clock_timestamp(),
  primary key (agent_id, node_id)
);
