-- Which isolation lock a task takes on its agent, so that who holds and who waits is read without the task's spec; and how
-- many scripts an agent runs at once, where people set it.
-- Only adds: the server version before this one writes the defaults, which is what its tasks do, and reads neither.

-- No lock: null, of tasks that run nothing.
alter table task add column lock_name text default 'default';
alter table task add column lock_mode text not null default 'none' check (lock_mode in ('full', 'none'));
-- Null: the agent's own setting.
alter table agent add column slots integer check (slots between 0 and 1000);
