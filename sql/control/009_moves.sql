-- How a tenant goes from one place to another while it works.
alter table tenant_connection_profiles add column writable boolean not null default true;
comment on column tenant_connection_profiles.writable is 'False for the moment in which a move copies its last rows: writers wait for it.';

create table tenant_moves (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  from_place jsonb not null,
  to_place jsonb not null,
  state text not null default 'copying' check (state in ('copying', 'switched', 'confirming', 'confirmed', 'returning', 'cancelling', 'rolled_back')),
  step text,
  tables jsonb not null default '{}',
  read_only_ms int,
  error text,
  lease uuid,
  requested_by uuid,
  switched_at timestamptz(3),
  ended_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, id)
);
comment on column tenant_moves.tables is 'What was copied and compared, by table: rows and checksum.';
comment on column tenant_moves.lease is 'Whoever works on it. Another who takes it over writes his own, and the one before is refused.';
create unique index tenant_moves__tenant_id_key on tenant_moves (tenant_id) where state not in ('confirmed', 'rolled_back');
create index tenant_moves_recent on tenant_moves (tenant_id, created_at desc);
call plane.protect('tenant_moves', true);
call plane.audited('tenant_moves', '{lease,tables}');
