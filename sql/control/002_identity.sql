-- Organizations, people, sessions and keys.
create table res_organizations (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  code text not null,
  name text not null,
  currency char(3) not null default 'EUR',
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id)
);
create unique index res_organizations__code_key on res_organizations (tenant_id, code) where deleted_at is null;
call plane.protect('res_organizations', true);
call plane.audited('res_organizations');

create table res_workspaces (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  name text not null,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id),
  unique (tenant_id, organization_id, id),
  foreign key (tenant_id, organization_id) references res_organizations (tenant_id, id)
);
create unique index res_workspaces__code_key on res_workspaces (tenant_id, organization_id, code) where deleted_at is null;
call plane.protect('res_workspaces', true);
call plane.audited('res_workspaces');

create table res_organization_settings (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  workspace_required boolean not null default false,
  approval_limits jsonb not null default '{}',
  over_receipt_tolerance numeric(9, 6) not null default 0 check (over_receipt_tolerance between 0 and 1),
  numbering jsonb not null default '{}',
  fiscal_year_start_month int not null default 1 check (fiscal_year_start_month between 1 and 12),
  mfa_required boolean not null default false,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, organization_id),
  foreign key (tenant_id, organization_id) references res_organizations (tenant_id, id)
);
comment on column res_organization_settings.approval_limits is 'Role code → the largest amount it may approve, as a decimal string; null is without limit.';
comment on column res_organization_settings.over_receipt_tolerance is 'Share of the ordered quantity that may come on top: 0.1 is ten per cent.';
call plane.protect('res_organization_settings', true);
call plane.audited('res_organization_settings');

create table res_users (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  email text not null check (length(email) <= 254),
  name text not null,
  kind text not null default 'worker' check (kind in ('worker', 'client', 'service')),
  status text not null default 'invited' check (status in ('invited', 'active', 'locked', 'disabled', 'deleted')),
  password_hash text,
  password_changed_at timestamptz(3),
  verified_at timestamptz(3),
  locale text check (locale in ('en', 'es', 'pt', 'tr', 'az')),
  timezone text,
  last_organization_id uuid,
  last_workspace_id uuid,
  failed_logins int not null default 0,
  locked_until timestamptz(3),
  last_login_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id)
);
create unique index res_users__email_key on res_users (tenant_id, lower(email)) where deleted_at is null;
call plane.protect('res_users', true);
call plane.audited('res_users', '{password_hash}');

create table res_user_mfa (
  id uuid primary key,
  tenant_id uuid not null,
  user_id uuid not null,
  kind text not null check (kind in ('totp', 'webauthn', 'recovery')),
  label text,
  secret bytea,
  credential_id text,
  public_key bytea,
  counter bigint not null default 0,
  confirmed_at timestamptz(3),
  used_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  foreign key (tenant_id, user_id) references res_users (tenant_id, id)
);
create index res_user_mfa_user on res_user_mfa (tenant_id, user_id, kind);
create unique index res_user_mfa__credential_id_key on res_user_mfa (tenant_id, credential_id) where credential_id is not null;
call plane.protect('res_user_mfa', true);
call plane.audited('res_user_mfa', '{secret,public_key}');

create table res_sessions (
  id uuid primary key,
  tenant_id uuid not null,
  user_id uuid not null,
  family_id uuid not null,
  refresh_hash bytea not null,
  previous_hash bytea,
  rotated_at timestamptz(3),
  organization_id uuid,
  workspace_id uuid,
  user_agent text,
  address text,
  last_seen_at timestamptz(3) not null default now(),
  expires_at timestamptz(3) not null,
  revoked_at timestamptz(3),
  revoked_reason text,
  created_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  foreign key (tenant_id, user_id) references res_users (tenant_id, id)
);
comment on column res_sessions.refresh_hash is 'SHA-256 of the one refresh token that is good now; the token carries the session id, so an older one is recognised as reuse.';
create index res_sessions_user on res_sessions (tenant_id, user_id, created_at desc);
call plane.protect('res_sessions', true);

create table res_api_keys (
  id uuid primary key,
  tenant_id uuid not null,
  user_id uuid not null,
  name text not null,
  prefix text not null,
  secret_hash bytea not null,
  permissions text[] not null default '{}',
  organization_id uuid,
  workspace_id uuid,
  allowed_addresses cidr[] not null default '{}',
  expires_at timestamptz(3),
  last_used_at timestamptz(3),
  revoked_at timestamptz(3),
  replaced_by uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  foreign key (tenant_id, user_id) references res_users (tenant_id, id)
);
create unique index res_api_keys__prefix_key on res_api_keys (tenant_id, prefix);
create index res_api_keys_user on res_api_keys (tenant_id, user_id);
call plane.protect('res_api_keys', true);
call plane.audited('res_api_keys', '{secret_hash}');

create table res_one_time_tokens (
  id uuid primary key,
  tenant_id uuid not null,
  user_id uuid not null,
  purpose text not null check (purpose in ('invitation', 'password_reset', 'email_verification', 'mfa_challenge')),
  token_hash bytea not null,
  expires_at timestamptz(3) not null,
  used_at timestamptz(3),
  created_at timestamptz(3) not null default now(),
  foreign key (tenant_id, user_id) references res_users (tenant_id, id)
);
create unique index res_one_time_tokens__token_hash_key on res_one_time_tokens (tenant_id, token_hash);
create index res_one_time_tokens_user on res_one_time_tokens (tenant_id, user_id, purpose);
call plane.protect('res_one_time_tokens', true);
