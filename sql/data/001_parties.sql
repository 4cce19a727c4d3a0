-- Whom the tenant deals with.
create table erp_party (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  name text not null,
  roles text[] not null check (roles <@ array['supplier', 'client', 'carrier'] and cardinality(roles) > 0),
  tax_id text,
  currency char(3),
  credit_limit numeric(19, 4) check (credit_limit >= 0),
  credit_hold boolean not null default false,
  parent_id uuid,
  merged_into uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
comment on table erp_party is 'Someone the tenant buys from, sells to or ships with.';
alter table erp_party add foreign key (tenant_id, parent_id) references erp_party (tenant_id, id), add foreign key (tenant_id, merged_into) references erp_party (tenant_id, id);
create unique index erp_party__code_key on erp_party (tenant_id, organization_id, code) where deleted_at is null;
create index erp_party_name on erp_party (tenant_id, organization_id, name, id) where deleted_at is null;
create index erp_party_credit_hold on erp_party (tenant_id, organization_id, credit_hold, id) where deleted_at is null;
create index erp_party_roles on erp_party using gin (tenant_id, organization_id, roles) where deleted_at is null;
create index erp_party_search on erp_party using gin (tenant_id, code gin_trgm_ops, name gin_trgm_ops) where deleted_at is null;
create index erp_party_recent on erp_party (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_party');
call plane.audited('erp_party');

create table erp_party_address (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  party_id uuid not null,
  kind text not null check (kind in ('billing', 'shipping', 'office')),
  lines bytea not null,
  city text,
  postal_code text,
  country char(2) not null,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
alter table erp_party_address add foreign key (tenant_id, party_id) references erp_party (tenant_id, id);
comment on column erp_party_address.lines is 'Encrypted under the tenant''s key.';
create index erp_party_address_party_id on erp_party_address (tenant_id, organization_id, party_id, id) where deleted_at is null;
create index erp_party_address_recent on erp_party_address (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_party_address');
call plane.audited('erp_party_address');

create table erp_party_contact (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  party_id uuid not null,
  name text not null,
  role text,
  email bytea,
  email_index bytea,
  phone bytea,
  phone_index bytea,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
alter table erp_party_contact add foreign key (tenant_id, party_id) references erp_party (tenant_id, id);
comment on column erp_party_contact.email is 'Encrypted under the tenant''s key; email_index is its blind index.';
create index erp_party_contact_party_id on erp_party_contact (tenant_id, organization_id, party_id, id) where deleted_at is null;
create index erp_party_contact_email_index on erp_party_contact (tenant_id, organization_id, email_index, id) where deleted_at is null;
create index erp_party_contact_recent on erp_party_contact (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_party_contact');
call plane.audited('erp_party_contact');
