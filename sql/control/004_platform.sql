-- What can be bought, what a tenant has, and the menu that follows from it.
create table platform_products (
  code text primary key,
  name text not null,
  sort int not null default 0
);
create table platform_product_modules (
  code text primary key,
  product text not null references platform_products,
  name text not null,
  requires text[] not null default '{}',
  sort int not null default 0
);
create table platform_plans (
  code text primary key,
  name text not null,
  price numeric(19, 4) not null default 0,
  currency char(3) not null default 'EUR',
  interval text not null default 'month' check (interval in ('month', 'year')),
  trial_days int not null default 30,
  sort int not null default 0
);
create table platform_plan_modules (
  plan text not null references platform_plans,
  module text not null references platform_product_modules,
  primary key (plan, module)
);
create table platform_plan_limits (
  plan text not null references platform_plans,
  metric text not null check (metric in ('users', 'records', 'devices', 'storage', 'api_calls')),
  amount bigint,
  primary key (plan, metric)
);
comment on column platform_plan_limits.amount is 'Null is without limit; storage in bytes, api calls a month.';
create table platform_menu_items (
  code text primary key,
  parent text references platform_menu_items,
  labels jsonb not null,
  path text,
  icon text,
  sort int not null default 0,
  module text references platform_product_modules,
  permission text
);
comment on column platform_menu_items.labels is 'Language → label; en is always there.';
grant select on platform_products, platform_product_modules, platform_plans, platform_plan_modules, platform_plan_limits, platform_menu_items to tenantry_app, tenantry_reader;

create table tenant_platform_products (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  product text not null references platform_products,
  plan text references platform_plans,
  availability text not null check (availability in ('enabled', 'blocked', 'disabled')),
  source text not null check (source in ('plan', 'grant', 'trial')),
  expires_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, product)
);
call plane.protect('tenant_platform_products', true);
call plane.audited('tenant_platform_products');

create table tenant_platform_product_modules (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  module text not null references platform_product_modules,
  availability text not null check (availability in ('enabled', 'blocked', 'disabled')),
  source text not null check (source in ('plan', 'grant', 'trial')),
  expires_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, module)
);
comment on column tenant_platform_product_modules.availability is 'blocked is shown with what would unlock it, disabled is not shown at all.';
call plane.protect('tenant_platform_product_modules', true);
call plane.audited('tenant_platform_product_modules');

create table billing_subscriptions (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  plan text not null references platform_plans,
  status text not null check (status in ('trialing', 'active', 'past_due', 'cancelled')),
  current_period_end timestamptz(3),
  grace_ends_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now()
);
create unique index billing_subscriptions__tenant_id_key on billing_subscriptions (tenant_id) where status <> 'cancelled';
call plane.protect('billing_subscriptions', true);
call plane.audited('billing_subscriptions');

create table platform_maintenance_windows (
  id uuid primary key,
  starts_at timestamptz(3) not null,
  ends_at timestamptz(3) not null check (ends_at > starts_at),
  message text not null,
  created_at timestamptz(3) not null default now()
);
grant select, insert, update, delete on platform_maintenance_windows to tenantry_app;

do $$
declare
  target text;
begin
  foreach target in array array['tenant_platform_products', 'tenant_platform_product_modules', 'billing_subscriptions', 'tenant_feature_flags', 'tenant_settings'] loop
    execute format('create trigger epoch_insert after insert on %I referencing new table as changed for each statement execute function plane.raise_access_epoch()', target);
    execute format('create trigger epoch_update after update on %I referencing new table as changed for each statement execute function plane.raise_access_epoch()', target);
    execute format('create trigger epoch_delete after delete on %I referencing old table as changed for each statement execute function plane.raise_access_epoch()', target);
  end loop;
end
$$;

insert into platform_products (code, name, sort) values ('erp', 'ERP', 1), ('telemetry', 'Telemetry', 2);
insert into platform_product_modules (code, product, name, requires, sort) values
  ('erp.parties', 'erp', 'Parties', '{}', 1),
  ('erp.products', 'erp', 'Products', '{}', 2),
  ('erp.inventory', 'erp', 'Inventory', '{erp.products}', 3),
  ('erp.procurement', 'erp', 'Procurement', '{erp.parties,erp.products,erp.inventory}', 4),
  ('erp.sales', 'erp', 'Sales', '{erp.parties,erp.products,erp.inventory}', 5),
  ('erp.production', 'erp', 'Production', '{erp.products,erp.inventory}', 6),
  ('telemetry.devices', 'telemetry', 'Devices and readings', '{}', 7);
insert into platform_plans (code, name, price, sort) values ('starter', 'Starter', 49, 1), ('professional', 'Professional', 199, 2), ('enterprise', 'Enterprise', 799, 3);
insert into platform_plan_modules (plan, module)
  select 'enterprise', code from platform_product_modules
  union all select 'professional', code from platform_product_modules where code <> 'erp.production'
  union all select 'starter', code from platform_product_modules where code in ('erp.parties', 'erp.products', 'erp.inventory');
insert into platform_plan_limits (plan, metric, amount) values
  ('starter', 'users', 5), ('starter', 'records', 50000), ('starter', 'devices', 10), ('starter', 'storage', 5000000000), ('starter', 'api_calls', 1000000),
  ('professional', 'users', 50), ('professional', 'records', 1000000), ('professional', 'devices', 500), ('professional', 'storage', 100000000000), ('professional', 'api_calls', 20000000),
  ('enterprise', 'users', null), ('enterprise', 'records', null), ('enterprise', 'devices', null), ('enterprise', 'storage', null), ('enterprise', 'api_calls', null);
insert into platform_menu_items (code, parent, labels, path, icon, sort, module, permission) values
  ('erp', null, '{"en":"ERP","es":"ERP","pt":"ERP","tr":"ERP","az":"ERP"}', null, 'package', 1, null, null),
  ('erp.parties', 'erp', '{"en":"Parties","es":"Terceros","pt":"Parceiros","tr":"Cariler","az":"Tərəfdaşlar"}', '/erp/parties', 'users', 1, 'erp.parties', 'erp.party.read'),
  ('erp.products', 'erp', '{"en":"Products","es":"Productos","pt":"Produtos","tr":"Ürünler","az":"Məhsullar"}', '/erp/products', 'box', 2, 'erp.products', 'erp.product.read'),
  ('erp.stock', 'erp', '{"en":"Stock","es":"Existencias","pt":"Estoque","tr":"Stok","az":"Anbar"}', '/erp/stock', 'layers', 3, 'erp.inventory', 'erp.stock.read'),
  ('erp.purchase_orders', 'erp', '{"en":"Purchase orders","es":"Pedidos de compra","pt":"Pedidos de compra","tr":"Satın alma siparişleri","az":"Alış sifarişləri"}', '/erp/purchase-orders', 'cart', 4, 'erp.procurement', 'erp.purchase_order.read'),
  ('erp.sales_orders', 'erp', '{"en":"Sales orders","es":"Pedidos de venta","pt":"Pedidos de venda","tr":"Satış siparişleri","az":"Satış sifarişləri"}', '/erp/sales-orders', 'tag', 5, 'erp.sales', 'erp.sales_order.read'),
  ('erp.batches', 'erp', '{"en":"Production","es":"Producción","pt":"Produção","tr":"Üretim","az":"İstehsal"}', '/erp/batches', 'flask', 6, 'erp.production', 'erp.batch.read'),
  ('telemetry', null, '{"en":"Telemetry","es":"Telemetría","pt":"Telemetria","tr":"Telemetri","az":"Telemetriya"}', null, 'activity', 2, null, null),
  ('telemetry.devices', 'telemetry', '{"en":"Devices","es":"Dispositivos","pt":"Dispositivos","tr":"Cihazlar","az":"Cihazlar"}', '/telemetry/devices', 'cpu', 1, 'telemetry.devices', 'telemetry.device.read');
