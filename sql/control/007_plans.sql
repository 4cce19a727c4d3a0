-- What is sold can be changed while it is sold: by platform staff, written down, and known to every process at once.
alter table platform_product_modules add column version int not null default 1;
alter table platform_plans add column version int not null default 1;

/* Only a connection that is bound to the platform's own tenant changes the catalogue; everybody reads it. */
do $$
declare
  target text;
begin
  foreach target in array array['platform_products', 'platform_product_modules', 'platform_plans', 'platform_plan_modules', 'platform_plan_limits',
    'platform_menu_items'] loop
    execute format('alter table %I enable row level security', target);
    execute format('alter table %I force row level security', target);
    execute format('create policy everybody on %I for select to tenantry_app, tenantry_reader using (true)', target);
    execute format($policy$create policy staff on %I to tenantry_app
      using (exists (select from tenants t where t.id = plane.tenant_id() and t.kind = 'platform'))$policy$, target);
    execute format('create policy owner on %I to tenantry_owner using (true) with check (true)', target);
  end loop;
end
$$;
grant insert, update, delete on platform_plans, platform_plan_modules, platform_plan_limits to tenantry_app;
grant update on platform_product_modules to tenantry_app;

/* The catalogue has no tenant: its trail is the platform's. Told to every process, and waited for, as rights are. */
create function plane.catalogue_changed() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
  before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
begin
  insert into plane.audit_events (tenant_id, entity, action, actor_id, actor_name, diff, correlation_id, created_at)
  select t.id, tg_table_name, lower(tg_op),
         nullif(current_setting('tenantry.actor_id', true), '')::uuid, nullif(current_setting('tenantry.actor_name', true), ''),
         case tg_op
           when 'UPDATE' then jsonb_build_object('code', after -> coalesce(tg_argv[0], 'code')) || (
             select coalesce(jsonb_object_agg(key, jsonb_build_array(before -> key, value)), '{}')
             from jsonb_each(after) where value is distinct from before -> key and key <> 'version')
           else coalesce(after, before) - 'version'
         end,
         nullif(current_setting('tenantry.correlation_id', true), ''), now()
  from tenants t where t.kind = 'platform';
  perform pg_notify('tenantry_catalogue', ''), set_config('tenantry.rights_changed', 'on', true);
  return null;
end
$$;
create trigger catalogue_changed after insert or update or delete on platform_product_modules for each row execute function plane.catalogue_changed();
create trigger catalogue_changed after insert or update or delete on platform_plans for each row execute function plane.catalogue_changed();
create trigger catalogue_changed after insert or update or delete on platform_plan_modules for each row execute function plane.catalogue_changed('plan');
create trigger catalogue_changed after insert or update or delete on platform_plan_limits for each row execute function plane.catalogue_changed('plan');

/* A module that a tenant worked with and loses is remembered (blocked, by plan), so that its documents stay readable.
   What the plan has is not written down a second time: the copies that tenants were made with go. */
delete from tenant_platform_product_modules where source in ('plan', 'trial') and expires_at is null;
comment on table tenant_platform_product_modules is 'Where a tenant differs from its plan. Source plan: a module that it had and lost, readable still.';

create function plane.remember_lost_modules() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
begin
  if tg_table_name = 'platform_plan_modules' then
    insert into tenant_platform_product_modules (id, tenant_id, module, availability, source)
    select gen_random_uuid(), p.tenant_id, m.code, 'blocked', 'plan'
    from gone g join platform_product_modules m on m.code = g.module
    join tenant_platform_products p on p.plan = g.plan and p.product = m.product and p.availability = 'enabled'
    on conflict (tenant_id, module) do nothing;
  else
    insert into tenant_platform_product_modules (id, tenant_id, module, availability, source)
    select gen_random_uuid(), g.tenant_id, m.code, 'blocked', 'plan'
    from gone g join platform_product_modules m on m.product = g.product
    join platform_plan_modules pm on pm.plan = g.plan and pm.module = m.code
    where g.availability = 'enabled'
    on conflict (tenant_id, module) do nothing;
  end if;
  return null;
end
$$;
create trigger remember_lost after delete on platform_plan_modules referencing old table as gone for each statement execute function plane.remember_lost_modules();
create trigger remember_lost after update on tenant_platform_products referencing old table as gone for each statement execute function plane.remember_lost_modules();

create table usage_counters (
  tenant_id uuid not null references tenants,
  metric text not null,
  period date not null,
  amount bigint not null default 0,
  primary key (tenant_id, metric, period)
);
comment on table usage_counters is 'What is counted a month (its first day): calls of the API, added up by each process and written once a second.';
call plane.protect('usage_counters', true);

/* The registry and the menu name what there is: modules come with the routes that they open. */
delete from platform_menu_items;
delete from tenant_platform_product_modules where module in ('erp.sales', 'erp.production');
delete from platform_plan_modules where module in ('erp.sales', 'erp.production');
delete from platform_product_modules where code in ('erp.sales', 'erp.production');

insert into platform_menu_items (code, parent, labels, path, icon, sort, module, permission) values
  ('erp', null, '{"en":"ERP","es":"ERP","pt":"ERP","tr":"ERP","az":"ERP"}', null, 'package', 1, null, null),
  ('erp.parties', 'erp', '{"en":"Parties","es":"Terceros","pt":"Parceiros","tr":"Cariler","az":"Tərəfdaşlar"}', '/erp/parties', 'users', 1, 'erp.parties', 'erp.party.read'),
  ('erp.products', 'erp', '{"en":"Products","es":"Productos","pt":"Produtos","tr":"Ürünler","az":"Məhsullar"}', null, 'box', 2, 'erp.products', null),
  ('erp.products.products', 'erp.products', '{"en":"Products","es":"Productos","pt":"Produtos","tr":"Ürünler","az":"Məhsullar"}', '/erp/products', 'box', 1, 'erp.products', 'erp.product.read'),
  ('erp.products.categories', 'erp.products', '{"en":"Categories","es":"Categorías","pt":"Categorias","tr":"Kategoriler","az":"Kateqoriyalar"}', '/erp/product-categories', 'folder', 2, 'erp.products', 'erp.product_category.read'),
  ('erp.products.uoms', 'erp.products', '{"en":"Units","es":"Unidades","pt":"Unidades","tr":"Birimler","az":"Ölçü vahidləri"}', '/erp/uoms', 'ruler', 3, 'erp.products', 'erp.uom.read'),
  ('erp.products.conversions', 'erp.products', '{"en":"Conversions","es":"Conversiones","pt":"Conversões","tr":"Çevrimler","az":"Çevirmələr"}', '/erp/uom-conversions', 'repeat', 4, 'erp.products', 'erp.uom_conversion.read'),
  ('erp.inventory', 'erp', '{"en":"Inventory","es":"Inventario","pt":"Estoque","tr":"Stok yönetimi","az":"Anbar"}', null, 'layers', 3, 'erp.inventory', null),
  ('erp.inventory.stock', 'erp.inventory', '{"en":"Stock","es":"Existencias","pt":"Saldo","tr":"Stok","az":"Qalıqlar"}', '/erp/stock', 'layers', 1, 'erp.inventory', 'erp.stock.read'),
  ('erp.inventory.locations', 'erp.inventory', '{"en":"Locations","es":"Ubicaciones","pt":"Locais","tr":"Konumlar","az":"Yerlər"}', '/erp/locations', 'map-pin', 2, 'erp.inventory', 'erp.location.read'),
  ('erp.inventory.lots', 'erp.inventory', '{"en":"Lots","es":"Lotes","pt":"Lotes","tr":"Partiler","az":"Partiyalar"}', '/erp/lots', 'hash', 3, 'erp.inventory', 'erp.lot.read'),
  ('erp.inventory.reorder_rules', 'erp.inventory', '{"en":"Reorder rules","es":"Reglas de reposición","pt":"Regras de reposição","tr":"Yeniden sipariş kuralları","az":"Təkrar sifariş qaydaları"}', '/erp/reorder-rules', 'refresh-cw', 4, 'erp.inventory', 'erp.reorder_rule.read'),
  ('erp.inventory.alerts', 'erp.inventory', '{"en":"Stock alerts","es":"Alertas de existencias","pt":"Alertas de estoque","tr":"Stok uyarıları","az":"Anbar xəbərdarlıqları"}', '/erp/stock-alerts', 'bell', 5, 'erp.inventory', 'erp.stock_alert.read'),
  ('erp.procurement', 'erp', '{"en":"Purchasing","es":"Compras","pt":"Compras","tr":"Satın alma","az":"Satınalma"}', null, 'cart', 4, 'erp.procurement', null),
  ('erp.procurement.orders', 'erp.procurement', '{"en":"Purchase orders","es":"Pedidos de compra","pt":"Pedidos de compra","tr":"Satın alma siparişleri","az":"Alış sifarişləri"}', '/erp/purchase-orders', 'cart', 1, 'erp.procurement', 'erp.purchase_order.read'),
  ('erp.procurement.receipts', 'erp.procurement', '{"en":"Goods receipts","es":"Recepciones de mercancía","pt":"Recebimentos","tr":"Mal kabulleri","az":"Mal qəbulları"}', '/erp/goods-receipts', 'inbox', 2, 'erp.procurement', 'erp.goods_receipt.read'),
  ('telemetry', null, '{"en":"Telemetry","es":"Telemetría","pt":"Telemetria","tr":"Telemetri","az":"Telemetriya"}', null, 'activity', 2, null, null),
  ('telemetry.devices', 'telemetry', '{"en":"Devices","es":"Dispositivos","pt":"Dispositivos","tr":"Cihazlar","az":"Cihazlar"}', '/telemetry/devices', 'cpu', 1, 'telemetry.devices', 'telemetry.device.read'),
  ('telemetry.readings', 'telemetry', '{"en":"Readings","es":"Lecturas","pt":"Leituras","tr":"Ölçümler","az":"Ölçmələr"}', '/telemetry/readings', 'activity', 2, 'telemetry.devices', 'telemetry.reading.read'),
  ('company', null, '{"en":"Company","es":"Empresa","pt":"Empresa","tr":"Şirket","az":"Şirkət"}', null, 'settings', 3, null, null),
  ('company.users', 'company', '{"en":"People","es":"Personas","pt":"Pessoas","tr":"Kişiler","az":"İnsanlar"}', '/users', 'user', 1, null, 'identity.user.read'),
  ('company.roles', 'company', '{"en":"Roles","es":"Roles","pt":"Funções","tr":"Roller","az":"Rollar"}', '/rbac/roles', 'shield', 2, null, 'rbac.role.read'),
  ('company.matrix', 'company', '{"en":"Who can do what","es":"Quién puede qué","pt":"Quem pode o quê","tr":"Kim ne yapabilir","az":"Kim nə edə bilər"}', '/rbac/matrix', 'grid', 3, null, 'rbac.matrix.read'),
  ('company.findings', 'company', '{"en":"Rights to review","es":"Permisos por revisar","pt":"Direitos a rever","tr":"Gözden geçirilecek yetkiler","az":"Yoxlanacaq hüquqlar"}', '/rbac/findings', 'alert-triangle', 4, null, 'rbac.finding.read'),
  ('company.organizations', 'company', '{"en":"Organizations","es":"Organizaciones","pt":"Organizações","tr":"Organizasyonlar","az":"Təşkilatlar"}', '/organizations', 'home', 5, null, 'tenant.organization.read'),
  ('company.workspaces', 'company', '{"en":"Workspaces","es":"Espacios de trabajo","pt":"Espaços de trabalho","tr":"Çalışma alanları","az":"İş sahələri"}', '/workspaces', 'grid', 6, null, 'tenant.workspace.read'),
  ('company.api_keys', 'company', '{"en":"API keys","es":"Claves de API","pt":"Chaves de API","tr":"API anahtarları","az":"API açarları"}', '/api-keys', 'key', 7, null, 'identity.api_key.read'),
  ('company.security', 'company', '{"en":"Security","es":"Seguridad","pt":"Segurança","tr":"Güvenlik","az":"Təhlükəsizlik"}', '/tenant/security', 'lock', 8, null, 'tenant.security.read'),
  ('company.sign_in', 'company', '{"en":"Single sign-on","es":"Inicio de sesión único","pt":"Login único","tr":"Tek oturum açma","az":"Vahid giriş"}', '/tenant/identity-providers', 'log-in', 9, null, 'tenant.identity_provider.read'),
  ('company.menu', 'company', '{"en":"Menu","es":"Menú","pt":"Menu","tr":"Menü","az":"Menyu"}', '/menu/overrides', 'menu', 11, null, 'tenant.menu.read'),
  ('company.audit', 'company', '{"en":"Audit trail","es":"Registro de auditoría","pt":"Trilha de auditoria","tr":"Denetim izi","az":"Audit jurnalı"}', '/audit', 'file-text', 10, null, 'audit.event.read'),
  ('platform', null, '{"en":"Platform","es":"Plataforma","pt":"Plataforma","tr":"Platform","az":"Platforma"}', null, 'server', 4, null, null),
  ('platform.tenants', 'platform', '{"en":"Tenants","es":"Inquilinos","pt":"Locatários","tr":"Kiracılar","az":"Müştərilər"}', '/superadmin/tenants', 'briefcase', 1, null, 'platform.tenant.read'),
  ('platform.plans', 'platform', '{"en":"Plans","es":"Planes","pt":"Planos","tr":"Planlar","az":"Planlar"}', '/superadmin/plans', 'tag', 2, null, 'platform.plan.read'),
  ('platform.modules', 'platform', '{"en":"Modules","es":"Módulos","pt":"Módulos","tr":"Modüller","az":"Modullar"}', '/superadmin/modules', 'package', 3, null, 'platform.module.read');

-- The paths that the staff's list of tenants is read by.
create index tenants_recent on tenants (created_at desc, id desc);
create index tenants_name on tenants (name, id);
create index tenants_status on tenants (status, id);
create index tenants_kind on tenants (kind, id);
create index tenants_trial on tenants (trial_ends_at, id) where trial_ends_at is not null;
