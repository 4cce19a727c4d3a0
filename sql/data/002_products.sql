-- What is bought, kept and sold, and the units it is counted in.
create table erp_uom (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  name text not null,
  dimension text not null check (dimension in ('count', 'mass', 'volume', 'length', 'area', 'time')),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
comment on table erp_uom is 'A unit of measure.';
create unique index erp_uom__code_key on erp_uom (tenant_id, organization_id, code) where deleted_at is null;
create index erp_uom_dimension on erp_uom (tenant_id, organization_id, dimension, id) where deleted_at is null;
create index erp_uom_recent on erp_uom (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_uom');
call plane.audited('erp_uom');

create table erp_product_category (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  name text not null,
  parent_id uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
alter table erp_product_category add foreign key (tenant_id, parent_id) references erp_product_category (tenant_id, id);
create unique index erp_product_category__code_key on erp_product_category (tenant_id, organization_id, code) where deleted_at is null;
create index erp_product_category_name on erp_product_category (tenant_id, organization_id, name, id) where deleted_at is null;
create index erp_product_category_recent on erp_product_category (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_product_category');
call plane.audited('erp_product_category');

create table erp_product (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  name text not null,
  kind text not null default 'stocked' check (kind in ('stocked', 'service', 'kit')),
  uom_id uuid not null,
  category_id uuid,
  lot_tracked boolean not null default false,
  shelf_life_days int check (shelf_life_days > 0),
  barcode text,
  list_price numeric(19, 4) check (list_price >= 0),
  currency char(3),
  active boolean not null default true,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
comment on table erp_product is 'Something that is bought, made, kept or sold.';
alter table erp_product add foreign key (tenant_id, uom_id) references erp_uom (tenant_id, id), add foreign key (tenant_id, category_id) references erp_product_category (tenant_id, id);
comment on column erp_product.uom_id is 'The base unit: stock is counted in it.';
create unique index erp_product__code_key on erp_product (tenant_id, organization_id, code) where deleted_at is null;
create index erp_product_name on erp_product (tenant_id, organization_id, name, id) where deleted_at is null;
create index erp_product_kind on erp_product (tenant_id, organization_id, kind, id) where deleted_at is null;
create index erp_product_category_id on erp_product (tenant_id, organization_id, category_id, id) where deleted_at is null;
create index erp_product_barcode on erp_product (tenant_id, organization_id, barcode, id) where deleted_at is null;
create index erp_product_active on erp_product (tenant_id, organization_id, active, id) where deleted_at is null;
create index erp_product_search on erp_product using gin (tenant_id, code gin_trgm_ops, name gin_trgm_ops) where deleted_at is null;
create index erp_product_recent on erp_product (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_product');
call plane.audited('erp_product');

create table erp_product_variant (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  product_id uuid not null,
  code text not null,
  name text not null,
  attributes jsonb not null default '{}',
  barcode text,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
alter table erp_product_variant add foreign key (tenant_id, product_id) references erp_product (tenant_id, id);
create unique index erp_product_variant__code_key on erp_product_variant (tenant_id, organization_id, code) where deleted_at is null;
create index erp_product_variant_product_id on erp_product_variant (tenant_id, organization_id, product_id, id) where deleted_at is null;
create index erp_product_variant_recent on erp_product_variant (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_product_variant');
call plane.audited('erp_product_variant');

create table erp_uom_conversion (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  product_id uuid,
  from_uom_id uuid not null,
  to_uom_id uuid not null,
  numerator bigint not null check (numerator > 0),
  denominator bigint not null check (denominator > 0),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
comment on table erp_uom_conversion is 'One from-unit is numerator / denominator to-units: exact, because rational. Without a product it holds for all.';
alter table erp_uom_conversion
  add check (from_uom_id <> to_uom_id),
  add foreign key (tenant_id, product_id) references erp_product (tenant_id, id),
  add foreign key (tenant_id, from_uom_id) references erp_uom (tenant_id, id),
  add foreign key (tenant_id, to_uom_id) references erp_uom (tenant_id, id);
create unique index erp_uom_conversion__product_id__from_uom_id__to_uom_id_key
  on erp_uom_conversion (tenant_id, organization_id, product_id, from_uom_id, to_uom_id) nulls not distinct where deleted_at is null;
create index erp_uom_conversion_from_uom_id on erp_uom_conversion (tenant_id, organization_id, from_uom_id, id) where deleted_at is null;
create index erp_uom_conversion_recent on erp_uom_conversion (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_uom_conversion');
call plane.audited('erp_uom_conversion');

create table erp_custom_field (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  entity text not null,
  code text not null,
  label text not null,
  kind text not null check (kind in ('text', 'number', 'boolean', 'date', 'choice')),
  required boolean not null default false,
  choices text[] not null default '{}',
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
create unique index erp_custom_field__entity__code_key on erp_custom_field (tenant_id, organization_id, entity, code) where deleted_at is null;
create index erp_custom_field_recent on erp_custom_field (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_custom_field');
call plane.audited('erp_custom_field');
