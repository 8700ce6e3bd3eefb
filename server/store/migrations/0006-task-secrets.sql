-- Secrets of tasks, as ciphertext under the cluster's master key, and their names beside the task for people and claims.
-- Only adds: the server version before this one submits tasks without any and does not know of these.

alter table task add column secret_names text[] not null default '{}';

create table task_secret (
  task_id uuid primary key,
  -- AES-256-GCM, bound to the task's id.
  sealed bytea not null,
  created_at timestamptz not null default clock_timestamp()
);
-- Ciphertext does not compress.
alter table task_secret alter column sealed set storage external;
