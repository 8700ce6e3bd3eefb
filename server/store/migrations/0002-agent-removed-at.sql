-- When an agent was removed: for a while the sweep looks for attempts that were being stored at that moment.
-- Only adds: the server version before this one neither reads nor writes it.

alter table agent add column removed_at timestamptz;
create index agent_removed on agent (removed_at) where status = 'removed';
