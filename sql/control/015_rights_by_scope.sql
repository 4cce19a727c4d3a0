/* `erp.*.read` is every read under erp. */
alter table res_role_permissions drop constraint res_role_permissions_permission_check;
alter table res_role_permissions add constraint res_role_permissions_permission_check
  check (permission ~ '^(\*|[a-z_]+(\.[a-z_]+)*\.\*|[a-z_]+(\.[a-z_]+)+|([a-z_]+(\.[a-z_]+)*\.)?\*(\.[a-z_]+)+)$');
comment on column res_role_permissions.permission is 'A code, or a pattern: `erp.*` is everything under erp, `*.read` every read, `erp.*.read` every read under erp.';

/* Approval limits by role id: a role that takes another's code does not take its limit. */
update res_organization_settings s set approval_limits = coalesce((
  select jsonb_object_agg(r.id, l.value) from jsonb_each(s.approval_limits) as l
  join res_roles r on r.tenant_id = s.tenant_id and r.code = l.key and r.deleted_at is null), '{}')
where approval_limits <> '{}';
comment on column res_organization_settings.approval_limits is 'Role id → the largest amount it may approve, as a decimal string; null is without limit.';

/* The tenant's consent that platform staff changes data while they act in a user's place. Withdrawn or expired it ends at
   the next request. */
create table res_support_consents (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  organization_id uuid,
  workspace_id uuid,
  reason text not null check (length(reason) between 1 and 500),
  expires_at timestamptz(3) not null,
  granted_by uuid not null,
  revoked_at timestamptz(3),
  revoked_by uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  check (workspace_id is null or organization_id is not null),
  foreign key (tenant_id, granted_by) references res_users (tenant_id, id),
  foreign key (tenant_id, organization_id) references res_organizations (tenant_id, id),
  foreign key (tenant_id, organization_id, workspace_id) references res_workspaces (tenant_id, organization_id, id)
);
comment on table res_support_consents is 'Scope: no organization is the whole tenant, no workspace the whole organization.';
create index res_support_consents_recent on res_support_consents (tenant_id, created_at desc, id desc);
call plane.protect('res_support_consents');
call plane.audited('res_support_consents');
create trigger epoch_insert after insert on res_support_consents referencing new table as changed for each statement execute function plane.raise_access_epoch();
create trigger epoch_update after update on res_support_consents referencing new table as changed for each statement execute function plane.raise_access_epoch();

insert into platform_menu_items (code, parent, labels, path, icon, sort, module, permission) values
  ('erp.procurement.exchange_rates', 'erp.procurement', '{"en":"Exchange rates","es":"Tipos de cambio","pt":"Taxas de câmbio","tr":"Döviz kurları","az":"Valyuta məzənnələri"}', '/erp/exchange-rates', 'repeat', 9, 'erp.procurement', 'erp.exchange_rate.read'),
  ('company.support_consents', 'company', '{"en":"Support access","es":"Acceso de soporte","pt":"Acesso de suporte","tr":"Destek erişimi","az":"Dəstək girişi"}', '/tenant/support-consents', 'life-buoy', 14, null, 'tenant.support_consent.read');
