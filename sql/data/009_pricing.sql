-- What things cost, whom, when and from how many on.
create table erp_tax (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  name text not null,
  rate numeric(9, 6) not null check (rate between 0 and 1000),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
comment on column erp_tax.rate is 'Per cent of the price without it.';
create unique index erp_tax__code_key on erp_tax (tenant_id, organization_id, code) where deleted_at is null;
create index erp_tax_recent on erp_tax (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_tax');
call plane.audited('erp_tax');

alter table erp_product add column tax_id uuid;
alter table erp_product add foreign key (tenant_id, tax_id) references erp_tax (tenant_id, id);
create index erp_product_tax_id on erp_product (tenant_id, organization_id, tax_id, id) where deleted_at is null;

create table erp_price_list (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  name text not null,
  kind text not null default 'list' check (kind in ('contract', 'client', 'list')),
  client_id uuid,
  currency char(3) not null,
  tax_included boolean not null default false,
  valid_from date,
  valid_to date,
  active boolean not null default true,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id),
  constraint erp_price_list_client check ((kind = 'list') = (client_id is null)),
  constraint erp_price_list_validity check (valid_from <= valid_to),
  foreign key (tenant_id, client_id) references erp_party (tenant_id, id)
);
comment on column erp_price_list.kind is 'What was agreed with a client in a contract goes before his own prices, and these before everybody''s.';
comment on column erp_price_list.valid_to is 'The last day.';
create unique index erp_price_list__code_key on erp_price_list (tenant_id, organization_id, code) where deleted_at is null;
create index erp_price_list_name on erp_price_list (tenant_id, organization_id, name, id) where deleted_at is null;
create index erp_price_list_kind on erp_price_list (tenant_id, organization_id, kind, id) where deleted_at is null;
create index erp_price_list_client_id on erp_price_list (tenant_id, organization_id, client_id, id) where deleted_at is null;
create index erp_price_list_recent on erp_price_list (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_price_list');
call plane.audited('erp_price_list');

create table erp_price_list_item (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  price_list_id uuid not null,
  product_id uuid not null,
  minimum_quantity numeric(19, 6) not null default 0 check (minimum_quantity >= 0),
  price numeric(19, 4) not null check (price >= 0),
  valid_from date,
  valid_to date,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id),
  constraint erp_price_list_item_validity check (valid_from <= valid_to),
  foreign key (tenant_id, price_list_id) references erp_price_list (tenant_id, id),
  foreign key (tenant_id, product_id) references erp_product (tenant_id, id)
);
comment on column erp_price_list_item.price is 'For one base unit of the product, from minimum_quantity base units on.';
create unique index erp_price_list_item__price_list_id__product_id__minimum_quantity__valid_from_key
  on erp_price_list_item (tenant_id, organization_id, price_list_id, product_id, minimum_quantity, valid_from) nulls not distinct where deleted_at is null;
create index erp_price_list_item_product_id on erp_price_list_item (tenant_id, organization_id, product_id, id) where deleted_at is null;
create index erp_price_list_item_recent on erp_price_list_item (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_price_list_item');
call plane.audited('erp_price_list_item');
call plane.counted('erp_tax');
call plane.counted('erp_price_list');
call plane.counted('erp_price_list_item');
