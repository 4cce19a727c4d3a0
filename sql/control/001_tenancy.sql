-- Who the tenants are, how they are found, where their data lives.
create table tenants (
  id uuid primary key,
  slug text not null check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  name text not null,
  kind text not null default 'customer' check (kind in ('customer', 'platform')),
  status text not null default 'pending' check (status in ('pending', 'active', 'suspended', 'closed')),
  trial_ends_at timestamptz(3),
  locale text not null default 'en' check (locale in ('en', 'es', 'pt', 'tr', 'az')),
  timezone text not null default 'UTC',
  currency char(3) not null default 'EUR',
  access_epoch bigint not null default 1,
  approved_at timestamptz(3),
  suspended_at timestamptz(3),
  closed_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now()
);
comment on column tenants.access_epoch is 'Raised by every change to who may do what; caches of an older epoch are worthless.';
create unique index tenants__slug_key on tenants (slug);
call plane.protect('tenants', true, 'select, insert, update', 'id');
call plane.audited('tenants', '{}', 'id');

create table tenant_domains (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  domain text not null check (domain = lower(domain)),
  verification_token text not null,
  verified_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, id)
);
create unique index tenant_domains__domain_key on tenant_domains (domain) where verified_at is not null;
create index tenant_domains_tenant on tenant_domains (tenant_id, domain);
call plane.protect('tenant_domains', true);
call plane.audited('tenant_domains', '{verification_token}');

create table tenant_connection_profiles (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  mode text not null default 'shared' check (mode in ('shared', 'schema', 'database')),
  catalog_key text not null default 'main',
  telemetry_key text not null default 'main',
  schema_name text,
  database_name text,
  state text not null default 'provisioning' check (state in ('provisioning', 'ready', 'moving', 'failed')),
  migration_version int not null default 0,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id),
  check ((mode = 'schema') = (schema_name is not null)),
  check ((mode = 'database') = (database_name is not null))
);
call plane.protect('tenant_connection_profiles', true);
call plane.audited('tenant_connection_profiles');

create table tenant_keys (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  wrapped_key bytea not null,
  master_key_id text not null,
  destroyed_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id)
);
call plane.protect('tenant_keys', true);
call plane.audited('tenant_keys', '{wrapped_key}');

create table tenant_settings (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  name text not null,
  value jsonb not null,
  set_by uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now()
);
create unique index tenant_settings__name_key on tenant_settings (tenant_id, name);
call plane.protect('tenant_settings', true);
call plane.audited('tenant_settings');

create table tenant_feature_flags (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  flag text not null,
  value jsonb not null,
  percentage int check (percentage between 0 and 100),
  user_ids uuid[] not null default '{}',
  expires_at timestamptz(3),
  set_by uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now()
);
create unique index tenant_feature_flags__flag_key on tenant_feature_flags (tenant_id, flag);
call plane.protect('tenant_feature_flags', true);
call plane.audited('tenant_feature_flags');

create table script_executions (
  id uuid primary key,
  script text not null,
  environment text not null,
  executor text not null,
  dry_run boolean not null,
  status text not null check (status in ('started', 'succeeded', 'failed')),
  affected_rows bigint,
  error text,
  execution_id uuid not null,
  created_at timestamptz(3) not null default now()
);
comment on table script_executions is 'One row at the start and one at the end of a governed script; nothing is ever changed.';
grant select, insert on script_executions to tenantry_app;
