-- What an attempt's log takes in the database, so that one agent cannot store without end about one attempt. Only adds, and
-- instantly: the server version before this one neither reads nor writes it.

alter table attempt_log add column stored_bytes bigint not null default 0;
