-- Failed work that staff has seen: a dead letter is kept once for a message, and set aside when it is dealt with.
alter table platform_dead_letters
  add column dismissed_at timestamptz(3),
  add column dismissed_by uuid,
  add column source_partition int,
  add column source_offset bigint;
comment on column platform_dead_letters.source_offset is 'Where a message lay that is no event or job at all. Every consumer group meets it; the unique index keeps it once.';
create unique index platform_dead_letters__source_key on platform_dead_letters (topic, source_partition, source_offset) where source_offset is not null;
create index platform_dead_letters_open on platform_dead_letters (created_at desc, id desc) where replayed_at is null and dismissed_at is null;
create index platform_dead_letters_tenant on platform_dead_letters (tenant_id, created_at desc, id desc) where tenant_id is not null;
create index tenant_provisioning_steps_failed on tenant_provisioning_steps (tenant_id) where state = 'failed';
create index tenant_moves_open on tenant_moves (state) where state not in ('confirmed', 'rolled_back');
