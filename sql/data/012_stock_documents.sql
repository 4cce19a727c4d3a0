-- Documents of the store: goods on their way, goods counted, what else goods cost.
create table erp_stock_transfer (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  workspace_id uuid,
  code text not null,
  status text not null default 'draft' check (status in ('draft', 'shipped', 'partially_received', 'received', 'closed', 'cancelled')),
  from_location_id uuid not null,
  to_location_id uuid not null,
  notes text,
  requested_by uuid,
  shipped_at timestamptz(3),
  received_at timestamptz(3),
  reason text,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id),
  check (from_location_id <> to_location_id),
  foreign key (tenant_id, from_location_id) references erp_location (tenant_id, id),
  foreign key (tenant_id, to_location_id) references erp_location (tenant_id, id)
);
comment on table erp_stock_transfer is 'Goods that go from one place to another and take their time: between the two they are in transit.';
create unique index erp_stock_transfer__code_key on erp_stock_transfer (tenant_id, organization_id, code) where deleted_at is null;
create index erp_stock_transfer_status on erp_stock_transfer (tenant_id, organization_id, status, id) where deleted_at is null;
create index erp_stock_transfer_recent on erp_stock_transfer (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
create index erp_stock_transfer_from_location_id on erp_stock_transfer (tenant_id, organization_id, from_location_id, id) where deleted_at is null;
create index erp_stock_transfer_to_location_id on erp_stock_transfer (tenant_id, organization_id, to_location_id, id) where deleted_at is null;
call plane.protect('erp_stock_transfer');
call plane.audited('erp_stock_transfer');
call plane.counted('erp_stock_transfer');

create table erp_stock_transfer_line (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  transfer_id uuid not null,
  position int not null check (position > 0),
  product_id uuid not null,
  lot_id uuid,
  quantity numeric(19, 6) not null check (quantity > 0),
  received_quantity numeric(19, 6) not null default 0,
  created_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  unique (tenant_id, transfer_id, position),
  unique nulls not distinct (tenant_id, transfer_id, product_id, lot_id),
  constraint erp_stock_transfer_line_received check (received_quantity between 0 and quantity),
  foreign key (tenant_id, transfer_id) references erp_stock_transfer (tenant_id, id),
  foreign key (tenant_id, product_id) references erp_product (tenant_id, id),
  foreign key (tenant_id, lot_id) references erp_lot (tenant_id, id)
);
comment on column erp_stock_transfer_line.quantity is 'In the product''s base unit.';
comment on column erp_stock_transfer_line.received_quantity is 'The same; changed only while the transfer''s row is locked.';
create index erp_stock_transfer_line_product on erp_stock_transfer_line (tenant_id, product_id);
call plane.protect('erp_stock_transfer_line');

create table erp_stock_count (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  workspace_id uuid,
  code text not null,
  status text not null default 'counting' check (status in ('counting', 'submitted', 'approved', 'posted', 'cancelled')),
  location_id uuid not null,
  blind boolean not null default true,
  notes text,
  started_by uuid,
  approved_by uuid,
  posted_at timestamptz(3),
  reason text,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id),
  foreign key (tenant_id, location_id) references erp_location (tenant_id, id)
);
comment on table erp_stock_count is 'What was found in a place. Blind: who counts is not told what should be there.';
create unique index erp_stock_count__code_key on erp_stock_count (tenant_id, organization_id, code) where deleted_at is null;
create index erp_stock_count_status on erp_stock_count (tenant_id, organization_id, status, id) where deleted_at is null;
create index erp_stock_count_recent on erp_stock_count (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
create index erp_stock_count_location_id on erp_stock_count (tenant_id, organization_id, location_id, id) where deleted_at is null;
call plane.protect('erp_stock_count');
call plane.audited('erp_stock_count');
call plane.counted('erp_stock_count');

create table erp_stock_count_line (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  count_id uuid not null,
  product_id uuid not null,
  lot_id uuid,
  expected_quantity numeric(19, 6),
  counted_quantity numeric(19, 6) check (counted_quantity >= 0),
  difference numeric(19, 6) generated always as (counted_quantity - expected_quantity) stored,
  counted_at timestamptz(3),
  counted_by uuid,
  created_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  unique nulls not distinct (tenant_id, count_id, product_id, lot_id),
  foreign key (tenant_id, count_id) references erp_stock_count (tenant_id, id),
  foreign key (tenant_id, product_id) references erp_product (tenant_id, id),
  foreign key (tenant_id, lot_id) references erp_lot (tenant_id, id)
);
comment on column erp_stock_count_line.expected_quantity is 'What was there when it was counted. The difference is posted, so that what is taken meanwhile stays taken.';
create index erp_stock_count_line_product on erp_stock_count_line (tenant_id, product_id);
call plane.protect('erp_stock_count_line');

create table erp_landed_cost (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  workspace_id uuid,
  code text not null,
  status text not null default 'posted' check (status in ('posted', 'reversed')),
  description text not null,
  amount numeric(19, 4) not null check (amount > 0),
  currency char(3) not null,
  split_by text not null check (split_by in ('value', 'quantity')),
  supplier_id uuid,
  posted_by uuid,
  reason text,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id),
  foreign key (tenant_id, supplier_id) references erp_party (tenant_id, id)
);
comment on table erp_landed_cost is 'Freight, duty and the like: a part of what goods cost, from the moment they came.';
comment on column erp_landed_cost.amount is 'In the organization''s currency.';
create unique index erp_landed_cost__code_key on erp_landed_cost (tenant_id, organization_id, code) where deleted_at is null;
create index erp_landed_cost_status on erp_landed_cost (tenant_id, organization_id, status, id) where deleted_at is null;
create index erp_landed_cost_recent on erp_landed_cost (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_landed_cost');
call plane.audited('erp_landed_cost');
call plane.counted('erp_landed_cost');

create table erp_landed_cost_line (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  landed_cost_id uuid not null,
  move_id uuid not null,
  product_id uuid not null,
  amount numeric(19, 4) not null,
  created_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  foreign key (tenant_id, landed_cost_id) references erp_landed_cost (tenant_id, id),
  foreign key (tenant_id, move_id) references erp_stock_move (tenant_id, id)
);
create index erp_landed_cost_line_owner on erp_landed_cost_line (tenant_id, landed_cost_id);
call plane.protect('erp_landed_cost_line', rights => 'select, insert');

-- Reservations can be made through the API: they count.
call plane.counted('erp_stock_reservation');
create trigger count_gone after delete on erp_stock_reservation referencing old table as old_rows for each statement execute function plane.count_gone();
create index erp_stock_reservation_product_id on erp_stock_reservation (tenant_id, organization_id, product_id, id);
create index erp_stock_reservation_source_id on erp_stock_reservation (tenant_id, organization_id, source_id, id);
