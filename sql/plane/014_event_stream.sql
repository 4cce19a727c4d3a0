/* Which events committed since somebody looked last: those whose transaction his snapshot did not see. An order of ids or
   positions cannot say that, because what was begun earlier may commit later. Rows of before this have none, and are not streamed. */
alter table plane.event_outbox add column xid xid8;
alter table plane.event_outbox alter column xid set default pg_current_xact_id();
comment on column plane.event_outbox.xid is 'The transaction that wrote it.';
alter table plane.event_outbox add column organization_id uuid;
comment on column plane.event_outbox.organization_id is 'Whose it is; null for what is the whole tenant''s.';
drop index plane.event_outbox_stream;
create index event_outbox_stream on plane.event_outbox (tenant_id, xid);
