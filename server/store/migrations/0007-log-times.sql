-- When an agent saw the first byte of a piece of log, by its own calendar: for people who read logs. Only adds, and instantly:
-- the server version before this one neither reads nor writes it.

alter table log_chunk add column seen_at timestamptz;
