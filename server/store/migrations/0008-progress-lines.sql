-- How far a running script says it is, the newest only: for people who watch. Only adds, and instantly: the server version
-- before this one neither reads nor writes it.

alter table attempt add column progress_percent smallint;
alter table attempt add column progress_message text;
alter table attempt add column progress_at timestamptz;
