-- Single sign-on that cannot be turned against the tenant: proven domains, confirmed links, roles by id.

create table res_identity_provider_domains (
  id uuid primary key,
  tenant_id uuid not null,
  provider_id uuid not null,
  domain text not null check (domain = lower(domain)),
  verification_token text not null,
  verified_at timestamptz(3),
  proven_by text check (proven_by in ('dns', 'tenant_domain', 'grandfathered')),
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, provider_id, domain),
  check ((verified_at is null) = (proven_by is null)),
  foreign key (tenant_id, provider_id) references res_identity_providers (tenant_id, id)
);
comment on table res_identity_provider_domains is 'The proofs of the email domains that a provider lists; an unproven domain counts for nothing.';
comment on column res_identity_provider_domains.proven_by is 'dns: its TXT record; tenant_domain: the same name is a proven host name of the tenant; grandfathered: in use before proofs existed.';
create unique index res_identity_provider_domains__domain_key on res_identity_provider_domains (tenant_id, domain) where verified_at is not null;
call plane.protect('res_identity_provider_domains', true);
call plane.audited('res_identity_provider_domains', '{verification_token}', 'tenant_id', 'provider_id');

/* Domains through which users signed in before proofs existed go on, recorded as such. Everything else must be proven. */
insert into res_identity_provider_domains (id, tenant_id, provider_id, domain, verification_token, verified_at, proven_by)
select gen_random_uuid(), p.tenant_id, p.id, d.domain, replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''),
  case when g.provider_id is not null then now() end, case when g.provider_id is not null then 'grandfathered' end
from res_identity_providers p
cross join lateral (select distinct lower(x) as domain from unnest(p.domains) as x) as d
left join (
  select distinct on (i.tenant_id, split_part(lower(u.email), '@', 2)) i.tenant_id, split_part(lower(u.email), '@', 2) as domain, i.provider_id
  from res_user_identities i
  join res_users u on u.tenant_id = i.tenant_id and u.id = i.user_id and u.deleted_at is null
  join res_identity_providers q on q.tenant_id = i.tenant_id and q.id = i.provider_id and q.enabled and q.deleted_at is null
    and split_part(lower(u.email), '@', 2) = any(q.domains)
  order by i.tenant_id, split_part(lower(u.email), '@', 2), q.created_at, q.id
) as g on g.tenant_id = p.tenant_id and g.domain = d.domain and g.provider_id = p.id
where p.deleted_at is null;

create table res_identity_provider_roles (
  id uuid primary key,
  tenant_id uuid not null,
  provider_id uuid not null,
  group_name text check (length(group_name) between 1 and 300),
  role_id uuid not null,
  created_at timestamptz(3) not null default now(),
  unique nulls not distinct (tenant_id, provider_id, group_name),
  foreign key (tenant_id, provider_id) references res_identity_providers (tenant_id, id),
  foreign key (tenant_id, role_id) references res_roles (tenant_id, id)
);
comment on table res_identity_provider_roles is 'Group of the provider → role, for the whole tenant; the row without a group is the default. By id: renaming a role changes nothing.';
create index res_identity_provider_roles_role on res_identity_provider_roles (tenant_id, role_id);
call plane.protect('res_identity_provider_roles', true);
call plane.audited('res_identity_provider_roles', '{}', 'tenant_id', 'provider_id');

insert into res_identity_provider_roles (id, tenant_id, provider_id, group_name, role_id)
select gen_random_uuid(), p.tenant_id, p.id, m.group_name, r.id
from res_identity_providers p
cross join lateral (select key as group_name, value as code from jsonb_each_text(p.role_map) where length(key) between 1 and 300
  union all select null, p.default_role where p.default_role is not null) as m
join res_roles r on r.tenant_id = p.tenant_id and r.code = m.code and r.deleted_at is null;

alter table res_identity_providers drop column role_map, drop column default_role,
  add column trust_email boolean not null default false;
comment on column res_identity_providers.trust_email is 'Accepts an ID token that has no email_verified claim; one that says false is refused in any case.';
comment on column res_identity_providers.domains is 'Email domains as listed; those that count are in res_identity_provider_domains, with a proof.';

alter table res_user_identities
  add column status text not null default 'active' check (status in ('pending', 'active', 'suspended')),
  add column reason text check (reason in ('provisioned', 'invitation', 'confirmed_by_owner', 'confirmed_by_administrator', 'before_confirmation',
    'requested', 'provider_changed', 'provider_deleted', 'second_subject')),
  add column email text,
  add column confirmed_by uuid,
  add column changed_at timestamptz(3),
  alter column last_login_at drop not null;
update res_user_identities set reason = 'before_confirmation', changed_at = created_at;
/* A second subject of one provider on one account is how a reused address took an account over: the first one stays. */
update res_user_identities i set status = 'suspended', reason = 'second_subject', changed_at = now()
where exists (select from res_user_identities o where o.tenant_id = i.tenant_id and o.provider_id = i.provider_id and o.user_id = i.user_id
  and (o.created_at, o.id) < (i.created_at, i.id));
alter table res_user_identities alter column reason set not null, alter column changed_at set not null;
comment on column res_user_identities.status is 'pending: waits for its owner or an administrator; active: signs in; suspended: signs in again once confirmed.';
comment on column res_user_identities.reason is 'Why the status is what it is.';
comment on column res_user_identities.email is 'The address that the provider asserted last.';
create unique index res_user_identities__user_key on res_user_identities (tenant_id, provider_id, user_id) where status = 'active';
call plane.audited('res_user_identities', '{subject,email}');

alter table res_sessions add column identity_id uuid;
comment on column res_sessions.identity_id is 'The link that a single sign-on came through. No foreign key: a session of a link that is gone must be found and refused.';
create index res_sessions_identity on res_sessions (tenant_id, identity_id) where identity_id is not null and revoked_at is null;

/* An API key of a person whose domain is enforced works only while their link and its provider do: a person removed at the
   company loses it with everything else. Service accounts have no person at the provider and are not asked. */
create function plane.sso_bars_keys(of_tenant uuid, of_user uuid) returns boolean
language sql stable set search_path = public, pg_temp as $$
  select exists (
    select from res_users u
    join res_identity_provider_domains d on d.tenant_id = u.tenant_id and d.verified_at is not null and d.domain = split_part(lower(u.email), '@', 2)
    join res_identity_providers p on p.tenant_id = d.tenant_id and p.id = d.provider_id and p.enforced and p.deleted_at is null
    where u.tenant_id = of_tenant and u.id = of_user and u.kind <> 'service'
      and not (p.enabled and exists (
        select from res_user_identities i
        where i.tenant_id = u.tenant_id and i.user_id = u.id and i.provider_id = p.id and i.status = 'active')))
$$;

create trigger epoch_insert after insert on res_identity_provider_domains referencing new table as changed for each statement execute function plane.raise_access_epoch();
create trigger epoch_update after update on res_identity_provider_domains referencing new table as changed for each statement execute function plane.raise_access_epoch();
create trigger epoch_delete after delete on res_identity_provider_domains referencing old table as changed for each statement execute function plane.raise_access_epoch();
create trigger epoch_update after update on res_user_identities referencing old table as old_rows new table as new_rows for each statement execute function plane.raise_epoch_of_users();
create trigger epoch_delete after delete on res_user_identities referencing old table as changed for each statement execute function plane.raise_access_epoch();
