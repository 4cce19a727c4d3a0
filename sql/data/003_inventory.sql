-- Where things are, and every move that brought them there.
create table erp_location (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  name text not null,
  kind text not null default 'internal' check (kind in ('internal', 'supplier', 'client', 'production', 'loss', 'transit')),
  level text not null default 'area' check (level in ('site', 'area', 'bin')),
  parent_id uuid,
  allow_negative boolean not null default false,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
alter table erp_location add foreign key (tenant_id, parent_id) references erp_location (tenant_id, id);
comment on column erp_location.kind is 'internal and transit hold stock; the others are the far side of a double entry and may go below zero.';
create unique index erp_location__code_key on erp_location (tenant_id, organization_id, code) where deleted_at is null;
create index erp_location_name on erp_location (tenant_id, organization_id, name, id) where deleted_at is null;
create index erp_location_kind on erp_location (tenant_id, organization_id, kind, id) where deleted_at is null;
create index erp_location_parent_id on erp_location (tenant_id, organization_id, parent_id, id) where deleted_at is null;
create index erp_location_recent on erp_location (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_location');
call plane.audited('erp_location');

create table erp_lot (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  product_id uuid not null,
  code text not null,
  supplier_lot text,
  expires_on date,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
alter table erp_lot add foreign key (tenant_id, product_id) references erp_product (tenant_id, id);
create unique index erp_lot__product_id__code_key on erp_lot (tenant_id, organization_id, product_id, code) where deleted_at is null;
create index erp_lot_code on erp_lot (tenant_id, organization_id, code, id) where deleted_at is null;
create index erp_lot_expires_on on erp_lot (tenant_id, organization_id, expires_on, id) where deleted_at is null;
create index erp_lot_recent on erp_lot (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_lot');
call plane.audited('erp_lot');

create table erp_stock_move (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  product_id uuid not null,
  lot_id uuid,
  from_location_id uuid not null,
  to_location_id uuid not null,
  quantity numeric(19, 6) not null check (quantity > 0),
  unit_cost numeric(19, 4),
  currency char(3),
  effective_at timestamptz(3) not null,
  source_type text not null,
  source_id uuid,
  reason text,
  reversal_of uuid,
  actor_id uuid,
  created_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  check (from_location_id <> to_location_id),
  foreign key (tenant_id, product_id) references erp_product (tenant_id, id),
  foreign key (tenant_id, lot_id) references erp_lot (tenant_id, id),
  foreign key (tenant_id, from_location_id) references erp_location (tenant_id, id),
  foreign key (tenant_id, to_location_id) references erp_location (tenant_id, id),
  foreign key (tenant_id, reversal_of) references erp_stock_move (tenant_id, id)
);
comment on table erp_stock_move is 'Immutable double entry: a correction is a reverse move. The application may insert and read, nothing else.';
comment on column erp_stock_move.quantity is 'In the product''s base unit, always above zero; the direction is from → to.';
create index erp_stock_move_product on erp_stock_move (tenant_id, organization_id, product_id, effective_at, id);
create index erp_stock_move_from on erp_stock_move (tenant_id, from_location_id, product_id, effective_at);
create index erp_stock_move_to on erp_stock_move (tenant_id, to_location_id, product_id, effective_at);
create index erp_stock_move_source on erp_stock_move (tenant_id, source_id);
create unique index erp_stock_move__reversal_of_key on erp_stock_move (tenant_id, reversal_of) where reversal_of is not null;
call plane.protect('erp_stock_move', rights => 'select, insert');

create table erp_stock_quant (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  organization_id uuid not null,
  location_id uuid not null,
  product_id uuid not null,
  lot_id uuid,
  quantity numeric(19, 6) not null default 0,
  reserved numeric(19, 6) not null default 0,
  negative_allowed boolean not null default false,
  updated_at timestamptz(3) not null default now(),
  unique nulls not distinct (tenant_id, product_id, location_id, lot_id),
  constraint erp_stock_quant_not_negative check (quantity >= 0 or negative_allowed),
  constraint erp_stock_quant_reserved check (reserved >= 0 and (reserved <= quantity or negative_allowed)),
  foreign key (tenant_id, location_id) references erp_location (tenant_id, id),
  foreign key (tenant_id, product_id) references erp_product (tenant_id, id),
  foreign key (tenant_id, lot_id) references erp_lot (tenant_id, id)
);
comment on table erp_stock_quant is 'What is where: the sum of the moves, kept by their trigger alone. The application may read and lock it, and change what is reserved.';
create index erp_stock_quant_location on erp_stock_quant (tenant_id, location_id, product_id);
create index erp_stock_quant_organization on erp_stock_quant (tenant_id, organization_id, product_id);
call plane.protect('erp_stock_quant', rights => 'select');
grant update (reserved) on erp_stock_quant to tenantry_app;

/* Keeps "sum of moves = quants" at every commit, by construction: the only writer of quantities. The quants of a statement
   are locked in (product, location, lot) order, the order everywhere, so two writers wait and never deadlock. */
create function erp_apply_moves() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
begin
  insert into erp_stock_quant (tenant_id, organization_id, location_id, product_id, lot_id, negative_allowed)
  select distinct m.tenant_id, m.organization_id, l.id, m.product_id, m.lot_id, l.allow_negative or l.kind not in ('internal', 'transit')
  from moves m join erp_location l on l.tenant_id = m.tenant_id and l.id in (m.from_location_id, m.to_location_id)
  order by m.product_id, l.id, m.lot_id
  on conflict do nothing;

  perform from erp_stock_quant q
  join moves m on m.tenant_id = q.tenant_id and m.product_id = q.product_id and q.location_id in (m.from_location_id, m.to_location_id)
    and q.lot_id is not distinct from m.lot_id
  order by q.product_id, q.location_id, q.lot_id
  for update of q;

  update erp_stock_quant q set quantity = q.quantity + d.delta, updated_at = now()
  from (
    select tenant_id, product_id, lot_id, location_id, sum(delta) as delta
    from (
      select tenant_id, product_id, lot_id, from_location_id as location_id, -quantity as delta from moves
      union all
      select tenant_id, product_id, lot_id, to_location_id, quantity from moves
    ) as entries group by 1, 2, 3, 4
  ) as d
  where q.tenant_id = d.tenant_id and q.product_id = d.product_id and q.location_id = d.location_id and q.lot_id is not distinct from d.lot_id;
  return null;
end
$$;
create trigger apply_moves after insert on erp_stock_move referencing new table as moves for each statement execute function erp_apply_moves();

create table erp_stock_reservation (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  location_id uuid not null,
  product_id uuid not null,
  lot_id uuid,
  quantity numeric(19, 6) not null check (quantity > 0),
  source_type text not null,
  source_id uuid not null,
  expires_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  foreign key (tenant_id, location_id) references erp_location (tenant_id, id),
  foreign key (tenant_id, product_id) references erp_product (tenant_id, id),
  foreign key (tenant_id, lot_id) references erp_lot (tenant_id, id)
);
create index erp_stock_reservation_source on erp_stock_reservation (tenant_id, source_id);
create index erp_stock_reservation_product on erp_stock_reservation (tenant_id, product_id, location_id);
call plane.protect('erp_stock_reservation');
call plane.audited('erp_stock_reservation');

create table erp_stock_layer (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  product_id uuid not null,
  lot_id uuid,
  move_id uuid not null,
  effective_at timestamptz(3) not null,
  quantity numeric(19, 6) not null,
  remaining numeric(19, 6) not null check (remaining >= 0),
  unit_cost numeric(19, 4) not null,
  currency char(3) not null,
  created_at timestamptz(3) not null default now(),
  foreign key (tenant_id, product_id) references erp_product (tenant_id, id),
  foreign key (tenant_id, move_id) references erp_stock_move (tenant_id, id)
);
comment on table erp_stock_layer is 'Cost layers for valuation; filled once valuation is built, from the moves.';
create index erp_stock_layer_open on erp_stock_layer (tenant_id, product_id, effective_at, id) where remaining > 0;
call plane.protect('erp_stock_layer');

create table erp_reorder_rule (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  product_id uuid not null,
  location_id uuid not null,
  minimum numeric(19, 6) not null check (minimum >= 0),
  target numeric(19, 6) not null,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
comment on table erp_reorder_rule is 'Below the minimum an alert is raised; the target is what to fill up to.';
alter table erp_reorder_rule
  add constraint erp_reorder_rule_target check (target >= minimum),
  add foreign key (tenant_id, product_id) references erp_product (tenant_id, id),
  add foreign key (tenant_id, location_id) references erp_location (tenant_id, id);
create unique index erp_reorder_rule__product_id__location_id_key on erp_reorder_rule (tenant_id, organization_id, product_id, location_id) where deleted_at is null;
create index erp_reorder_rule_location_id on erp_reorder_rule (tenant_id, organization_id, location_id, id) where deleted_at is null;
create index erp_reorder_rule_recent on erp_reorder_rule (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_reorder_rule');
call plane.audited('erp_reorder_rule');

create table erp_stock_alert (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  rule_id uuid not null,
  product_id uuid not null,
  location_id uuid not null,
  on_hand numeric(19, 6) not null,
  minimum numeric(19, 6) not null,
  status text not null default 'raised' check (status in ('raised', 'cleared')),
  cleared_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
comment on table erp_stock_alert is 'One open alert a rule: the unique index says so.';
alter table erp_stock_alert add foreign key (tenant_id, rule_id) references erp_reorder_rule (tenant_id, id);
create unique index erp_stock_alert__rule_id_key on erp_stock_alert (tenant_id, rule_id) where status = 'raised';
create index erp_stock_alert_status on erp_stock_alert (tenant_id, organization_id, status, id) where deleted_at is null;
create index erp_stock_alert_product_id on erp_stock_alert (tenant_id, organization_id, product_id, id) where deleted_at is null;
create index erp_stock_alert_recent on erp_stock_alert (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_stock_alert');
call plane.audited('erp_stock_alert');
