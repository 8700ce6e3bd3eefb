-- What people are shown of a large spec, so that a page of tasks reads none of the specs themselves: one takes up to 768 KiB.
-- Null: of a small spec, and of tasks that an earlier version stored; both are summarised from the spec when they are read.
-- Text, because jsonb refuses half a surrogate pair, which a title cut to its length may end with.
-- Only adds, and instantly: the server version before this one neither reads nor writes it.

alter table task add column summary text;
