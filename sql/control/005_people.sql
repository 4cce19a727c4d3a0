-- What a company needs to run its people by itself: throttled sign-in, second factors, mail, single sign-on, signing keys.

/* Names and addresses of people stay out of the trail: whoever is erased must be gone from it too. The fact of a change
   stays, and who the ids were is asked of res_users. */
call plane.audited('res_users', '{password_hash,email,name}');

alter table res_users add column erased_at timestamptz(3), add column invited_by uuid;
comment on column res_users.erased_at is 'When the personal data was erased; the row stays, so that the trail keeps its fact.';
alter table res_users add constraint res_users_email_ascii check (email ~ '^[\x21-\x7e]+$') not valid;
comment on column res_users.email is 'ASCII, its domain in Punycode: look-alike letters of other scripts cannot make a second admin@.';
alter table res_users drop column failed_logins, drop column locked_until;
create index res_users_search on res_users using gin (tenant_id, email gin_trgm_ops, name gin_trgm_ops) where deleted_at is null;
create index res_users_recent on res_users (tenant_id, created_at desc, id desc) where deleted_at is null;
create index res_users_name on res_users (tenant_id, name, id) where deleted_at is null;
create index res_users_email on res_users (tenant_id, email, id) where deleted_at is null;
create index res_users_status on res_users (tenant_id, status, id) where deleted_at is null;
create index res_users_kind on res_users (tenant_id, kind, id) where deleted_at is null;

alter table res_sessions add column authenticated_at timestamptz(3), add column methods text[] not null default '{}', add column device_hash bytea;
comment on column res_sessions.authenticated_at is 'When its user last proved who he is: at sign-in and at each step-up.';
comment on column res_sessions.methods is 'How, in the words of RFC 8176: pwd, otp, hwk, mfa, and sso.';
comment on column res_sessions.previous_hash is 'The token before, refused without ending the session for ten seconds after it was exchanged.';
create index res_sessions_ended on res_sessions ((least(expires_at, revoked_at)));
create index res_sessions_device on res_sessions (tenant_id, user_id, device_hash);

alter table res_roles add column mfa_required boolean not null default false;

alter table res_one_time_tokens drop constraint res_one_time_tokens_purpose_check;
alter table res_one_time_tokens
  add constraint res_one_time_tokens_purpose_check check (purpose in ('invitation', 'password_reset', 'email_verification', 'mfa_challenge', 'webauthn', 'oidc')),
  alter column user_id drop not null,
  add column data jsonb not null default '{}',
  add column attempts int not null default 0;
comment on column res_one_time_tokens.data is 'What the second step needs of the first: a WebAuthn challenge, a PKCE verifier. Dies with the token.';
create index res_one_time_tokens_age on res_one_time_tokens (expires_at);

create table res_login_throttle (
  tenant_id uuid not null references tenants,
  key bytea not null,
  failures int not null,
  blocked_until timestamptz(3),
  updated_at timestamptz(3) not null,
  primary key (tenant_id, key)
);
comment on table res_login_throttle is 'Failed sign-ins by account and by address, as hashes; an account that does not exist is counted like one that does.';
create index res_login_throttle_age on res_login_throttle (updated_at);
call plane.protect('res_login_throttle', true);

create table res_identity_providers (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  name text not null,
  issuer text not null,
  client_id text not null,
  client_secret bytea,
  domains text[] not null default '{}',
  enforced boolean not null default false,
  enabled boolean not null default true,
  groups_claim text not null default 'groups',
  role_map jsonb not null default '{}',
  default_role text,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id)
);
comment on table res_identity_providers is 'OpenID Connect providers that a tenant''s people sign in with.';
comment on column res_identity_providers.client_secret is 'Encrypted under the tenant''s key.';
comment on column res_identity_providers.domains is 'Email domains whose people this provider vouches for; with enforced they sign in in no other way.';
comment on column res_identity_providers.role_map is 'Group of the provider → role code.';
create unique index res_identity_providers__name_key on res_identity_providers (tenant_id, name) where deleted_at is null;
create index res_identity_providers_recent on res_identity_providers (tenant_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('res_identity_providers', true);
call plane.audited('res_identity_providers', '{client_secret}');

create table res_user_identities (
  id uuid primary key,
  tenant_id uuid not null,
  user_id uuid not null,
  provider_id uuid not null,
  subject text not null check (length(subject) between 1 and 255),
  last_login_at timestamptz(3) not null,
  created_at timestamptz(3) not null default now(),
  foreign key (tenant_id, user_id) references res_users (tenant_id, id),
  foreign key (tenant_id, provider_id) references res_identity_providers (tenant_id, id)
);
create unique index res_user_identities__subject_key on res_user_identities (tenant_id, provider_id, subject);
create index res_user_identities_user on res_user_identities (tenant_id, user_id);
call plane.protect('res_user_identities', true);

alter table res_user_roles add column provider_id uuid,
  add foreign key (tenant_id, provider_id) references res_identity_providers (tenant_id, id);
comment on column res_user_roles.provider_id is 'Set where a provider''s groups gave the role: they also take it away.';

create table platform_signing_keys (
  kid text primary key,
  wrapped_key bytea,
  public_jwk jsonb,
  activates_at timestamptz(3),
  revoked_at timestamptz(3),
  created_at timestamptz(3) not null default now()
);
comment on table platform_signing_keys is 'Keys of the access tokens beside those of JWT_KEYS, wrapped by the master key. A row without a key only revokes.';
grant select on platform_signing_keys to tenantry_app;
create function plane.announce_signing_keys() returns trigger language plpgsql as $$
begin
  perform pg_notify('tenantry_signing_keys', '');
  return null;
end
$$;
create trigger announce after insert or update or delete on platform_signing_keys for each statement execute function plane.announce_signing_keys();

/* What must bite at the next request, by name: any of these differing raises the tenant's epoch. Where a session was seen
   last and who signed in when is not among them. */
create or replace function plane.raise_epoch_of_users() returns trigger language plpgsql as $$
declare
  watched constant text[] := '{status,password_hash,revoked_at,kind,verified_at,expires_at,permissions,email,name,locale,timezone,deleted_at,authenticated_at,methods,confirmed_at}';
  tenant uuid;
begin
  for tenant in
    select distinct n.tenant_id
    from (select tenant_id, id, to_jsonb(r) as j from new_rows r) n join (select id, to_jsonb(r) as j from old_rows r) o using (id)
    where exists (select from unnest(watched) as w where n.j -> w is distinct from o.j -> w)
  loop
    update tenants set access_epoch = access_epoch + 1 where id = tenant;
    perform pg_notify('tenantry_access', tenant::text), set_config('tenantry.rights_changed', 'on', true);
  end loop;
  return null;
end
$$;
create trigger epoch_update after update on res_user_mfa referencing old table as old_rows new table as new_rows for each statement execute function plane.raise_epoch_of_users();
create trigger epoch_delete after delete on res_user_mfa referencing old table as changed for each statement execute function plane.raise_access_epoch();
create trigger epoch_insert after insert on res_identity_providers referencing new table as changed for each statement execute function plane.raise_access_epoch();
create trigger epoch_update after update on res_identity_providers referencing new table as changed for each statement execute function plane.raise_access_epoch();
