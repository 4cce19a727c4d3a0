-- From the wish to the shelf.
create table erp_supplier_product (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  supplier_id uuid not null,
  product_id uuid not null,
  supplier_code text,
  price numeric(19, 4) check (price >= 0),
  currency char(3),
  lead_time_days int check (lead_time_days >= 0),
  minimum_quantity numeric(19, 6),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
alter table erp_supplier_product
  add foreign key (tenant_id, supplier_id) references erp_party (tenant_id, id),
  add foreign key (tenant_id, product_id) references erp_product (tenant_id, id);
create unique index erp_supplier_product__supplier_id__product_id_key on erp_supplier_product (tenant_id, organization_id, supplier_id, product_id) where deleted_at is null;
create index erp_supplier_product_product_id on erp_supplier_product (tenant_id, organization_id, product_id, id) where deleted_at is null;
create index erp_supplier_product_recent on erp_supplier_product (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_supplier_product');
call plane.audited('erp_supplier_product');

create table erp_purchase_request (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  status text not null default 'draft' check (status in ('draft', 'submitted', 'approved', 'ordered', 'cancelled')),
  product_id uuid not null,
  uom_id uuid not null,
  quantity numeric(19, 6) not null check (quantity > 0),
  needed_on date,
  reason text,
  requested_by uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
alter table erp_purchase_request add foreign key (tenant_id, product_id) references erp_product (tenant_id, id), add foreign key (tenant_id, uom_id) references erp_uom (tenant_id, id);
create unique index erp_purchase_request__code_key on erp_purchase_request (tenant_id, organization_id, code) where deleted_at is null;
create index erp_purchase_request_status on erp_purchase_request (tenant_id, organization_id, status, id) where deleted_at is null;
create index erp_purchase_request_recent on erp_purchase_request (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_purchase_request');
call plane.audited('erp_purchase_request');

create table erp_purchase_order (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  workspace_id uuid,
  code text not null,
  status text not null default 'draft' check (status in ('draft', 'submitted', 'approved', 'sent', 'partially_received', 'received', 'closed', 'cancelled')),
  supplier_id uuid not null,
  currency char(3) not null,
  total numeric(19, 4) not null default 0 check (total >= 0),
  expected_on date,
  notes text,
  requested_by uuid not null,
  submitted_at timestamptz(3),
  approved_by uuid,
  approved_at timestamptz(3),
  sent_at timestamptz(3),
  cancelled_reason text,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
alter table erp_purchase_order add foreign key (tenant_id, supplier_id) references erp_party (tenant_id, id);
create unique index erp_purchase_order__code_key on erp_purchase_order (tenant_id, organization_id, code) where deleted_at is null;
create index erp_purchase_order_status on erp_purchase_order (tenant_id, organization_id, status, id) where deleted_at is null;
create index erp_purchase_order_supplier_id on erp_purchase_order (tenant_id, organization_id, supplier_id, id) where deleted_at is null;
create index erp_purchase_order_total on erp_purchase_order (tenant_id, organization_id, total, id) where deleted_at is null;
create index erp_purchase_order_search on erp_purchase_order using gin (tenant_id, code gin_trgm_ops) where deleted_at is null;
create index erp_purchase_order_recent on erp_purchase_order (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_purchase_order');
call plane.audited('erp_purchase_order');

create table erp_purchase_order_line (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  order_id uuid not null,
  position int not null check (position > 0),
  product_id uuid not null,
  uom_id uuid not null,
  quantity numeric(19, 6) not null check (quantity > 0),
  base_quantity numeric(19, 6) not null check (base_quantity > 0),
  unit_price numeric(19, 4) not null check (unit_price >= 0),
  amount numeric(19, 4) not null,
  received_quantity numeric(19, 6) not null default 0 check (received_quantity >= 0),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  unique (tenant_id, order_id, position),
  foreign key (tenant_id, order_id) references erp_purchase_order (tenant_id, id),
  foreign key (tenant_id, product_id) references erp_product (tenant_id, id),
  foreign key (tenant_id, uom_id) references erp_uom (tenant_id, id)
);
comment on column erp_purchase_order_line.base_quantity is 'quantity in the product''s base unit, converted when the line was written.';
comment on column erp_purchase_order_line.received_quantity is 'In the line''s unit; changed only while the order''s row is locked.';
create index erp_purchase_order_line_product on erp_purchase_order_line (tenant_id, product_id);
call plane.protect('erp_purchase_order_line');
call plane.audited('erp_purchase_order_line');

create table erp_purchase_approval (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  order_id uuid not null,
  step int not null default 1,
  approver_id uuid not null,
  amount numeric(19, 4) not null,
  currency char(3) not null,
  comment text,
  created_at timestamptz(3) not null default now(),
  unique (tenant_id, order_id, step),
  foreign key (tenant_id, order_id) references erp_purchase_order (tenant_id, id)
);
call plane.protect('erp_purchase_approval', rights => 'select, insert');

create table erp_goods_receipt (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  workspace_id uuid,
  code text not null,
  status text not null default 'posted' check (status in ('posted', 'reversed')),
  order_id uuid not null,
  location_id uuid not null,
  received_at timestamptz(3) not null,
  received_by uuid,
  notes text,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
alter table erp_goods_receipt add foreign key (tenant_id, order_id) references erp_purchase_order (tenant_id, id), add foreign key (tenant_id, location_id) references erp_location (tenant_id, id);
create unique index erp_goods_receipt__code_key on erp_goods_receipt (tenant_id, organization_id, code) where deleted_at is null;
create index erp_goods_receipt_order_id on erp_goods_receipt (tenant_id, organization_id, order_id, id) where deleted_at is null;
create index erp_goods_receipt_recent on erp_goods_receipt (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_goods_receipt');
call plane.audited('erp_goods_receipt');

create table erp_goods_receipt_line (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  receipt_id uuid not null,
  order_line_id uuid not null,
  product_id uuid not null,
  lot_id uuid,
  quantity numeric(19, 6) not null check (quantity > 0),
  base_quantity numeric(19, 6) not null check (base_quantity > 0),
  move_id uuid,
  created_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  foreign key (tenant_id, receipt_id) references erp_goods_receipt (tenant_id, id),
  foreign key (tenant_id, order_line_id) references erp_purchase_order_line (tenant_id, id),
  foreign key (tenant_id, lot_id) references erp_lot (tenant_id, id),
  foreign key (tenant_id, move_id) references erp_stock_move (tenant_id, id)
);
create index erp_goods_receipt_line_receipt on erp_goods_receipt_line (tenant_id, receipt_id);
create index erp_goods_receipt_line_order_line on erp_goods_receipt_line (tenant_id, order_line_id);
call plane.protect('erp_goods_receipt_line', rights => 'select, insert');

create table erp_supplier_return (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  status text not null default 'draft' check (status in ('draft', 'sent', 'closed', 'cancelled')),
  supplier_id uuid not null,
  order_id uuid,
  reason text,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
alter table erp_supplier_return add foreign key (tenant_id, supplier_id) references erp_party (tenant_id, id), add foreign key (tenant_id, order_id) references erp_purchase_order (tenant_id, id);
create unique index erp_supplier_return__code_key on erp_supplier_return (tenant_id, organization_id, code) where deleted_at is null;
create index erp_supplier_return_status on erp_supplier_return (tenant_id, organization_id, status, id) where deleted_at is null;
create index erp_supplier_return_recent on erp_supplier_return (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_supplier_return');
call plane.audited('erp_supplier_return');

create table erp_supplier_return_line (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  return_id uuid not null,
  product_id uuid not null,
  lot_id uuid,
  quantity numeric(19, 6) not null check (quantity > 0),
  move_id uuid,
  created_at timestamptz(3) not null default now(),
  foreign key (tenant_id, return_id) references erp_supplier_return (tenant_id, id),
  foreign key (tenant_id, product_id) references erp_product (tenant_id, id)
);
create index erp_supplier_return_line_return on erp_supplier_return_line (tenant_id, return_id);
call plane.protect('erp_supplier_return_line');
call plane.audited('erp_supplier_return_line');
