-- What stock is worth: kept with every move, in the transaction that makes it.
alter table erp_product
  add column cost_method text not null default 'average' check (cost_method in ('average', 'fifo')),
  add column serial_tracked boolean not null default false,
  add constraint erp_product_serial check (lot_tracked or not serial_tracked);
comment on column erp_product.cost_method is 'How what leaves is valued: at the moving average, or at what came first.';
comment on column erp_product.serial_tracked is 'Every lot of it is one piece.';

alter table erp_stock_move add column cost numeric(19, 4) check (cost >= 0);
comment on column erp_stock_move.cost is 'What all of it cost, in the organization''s currency; null where that follows from what the product costs then.';
update erp_stock_move set cost = round(quantity * unit_cost, 4) where unit_cost is not null;

alter table erp_goods_receipt add column exchange_rate numeric(18, 9) not null default 1 check (exchange_rate > 0);
comment on column erp_goods_receipt.exchange_rate is 'What one of the order''s currency was in the organization''s when the goods came.';

create function erp_holds_stock(kind text) returns boolean language sql immutable parallel safe
  as $$ select kind in ('internal', 'transit') $$;

create table erp_stock_value (
  tenant_id uuid not null,
  organization_id uuid not null,
  product_id uuid not null,
  currency char(3),
  quantity numeric(19, 6) not null default 0,
  value numeric(19, 4) not null default 0,
  unit_cost numeric(25, 10) not null default 0,
  updated_at timestamptz(3) not null default now(),
  primary key (tenant_id, product_id),
  foreign key (tenant_id, product_id) references erp_product (tenant_id, id)
);
comment on table erp_stock_value is 'What a product''s stock is worth now. Its row is the lock under which the product is valued.';
call plane.protect('erp_stock_value', rights => 'select');

drop table erp_stock_layer; -- it had been empty
create table erp_stock_layer (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  product_id uuid not null,
  effective_at timestamptz(3) not null,
  quantity numeric(19, 6) not null check (quantity <> 0),
  landed numeric(19, 4) not null default 0,
  cost numeric(19, 4),
  value numeric(19, 4) not null default 0,
  quantity_after numeric(19, 6) not null default 0,
  value_after numeric(19, 4) not null default 0,
  in_after numeric(25, 6),
  unit_cost numeric(25, 10) not null default 0,
  created_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  foreign key (tenant_id, id) references erp_stock_move (tenant_id, id)
);
comment on table erp_stock_layer is 'The value of each move that brings stock in or takes it out, and what there was after it: of the same id. Written by triggers alone.';
comment on column erp_stock_layer.quantity is 'Above zero what came in, below what went out.';
comment on column erp_stock_layer.landed is 'Freight, duty and the like that came on top of what was paid for it.';
comment on column erp_stock_layer.cost is 'Of what came in: all that it cost, landed cost included.';
comment on column erp_stock_layer.value is 'What the stock''s value changed by. Not the cost where more had been taken out than there was: what came in makes up for it first.';
comment on column erp_stock_layer.in_after is 'All that ever came in, up to here. What came in lies between this less its quantity and this; what was taken out first in, first out, lies there too.';
comment on column erp_stock_layer.unit_cost is 'What one costs after it.';
create index erp_stock_layer_order on erp_stock_layer (tenant_id, product_id, effective_at, (quantity < 0), id);
create index erp_stock_layer_queue on erp_stock_layer (tenant_id, product_id, in_after) where quantity > 0;
call plane.protect('erp_stock_layer', rights => 'select');

/* The moves of a product from a moment on, valued one after the other on what there was before. Nothing is written: who
   keeps the values and who proves them ask the same. At one moment, what comes in goes first.

   Taken out: at the average, value × taken / there; first in, first out, what the oldest that is left cost. A part of a
   layer costs the difference of two rounded parts of the whole, so that all parts make the whole, to the last decimal.
   Taken out below zero: at what one costs last; what comes then makes up for it, at its own cost.
   Brought in without a cost: at what one costs then. Brought back: at what it had when it left. */
create function erp_valuation(tenant uuid, product uuid, since timestamptz)
returns table (id uuid, cost numeric, value numeric, quantity_after numeric, value_after numeric, in_after numeric, unit_cost numeric)
-- Few, to the planner: each row is looked up by its key, and no table is read whole because there might be a thousand.
language plpgsql stable rows 5 as $$
#variable_conflict use_column
declare
  first_in boolean;
  there numeric;      -- how many there are
  worth numeric;      -- their value
  came numeric;       -- how many ever came
  each_costs numeric; -- what one costs
  before numeric;
  -- What came and is not used up: up to where each lies, how many it was, what it cost.
  upto numeric[] := '{}';
  amount numeric[] := '{}';
  paid numeric[] := '{}';
  oldest int := 1;
  used numeric;       -- up to where the queue is used
  want numeric;
  part numeric;
  begins numeric;
  done uuid[] := '{}';
  values_of numeric[] := '{}';
  known int;
  wanted numeric;
  e record;
begin
  select p.cost_method = 'fifo' into first_in from erp_product p where p.tenant_id = tenant and p.id = product;
  select l.quantity_after, l.value_after, l.in_after, l.unit_cost into there, worth, came, each_costs
  from erp_stock_layer l where l.tenant_id = tenant and l.product_id = product and l.effective_at < since
  order by l.effective_at desc, (l.quantity < 0) desc, l.id desc limit 1;
  if not found then
    there := 0; worth := 0; came := 0; each_costs := 0;
  end if;

  if first_in and there > 0 then
    select coalesce(-sum(l.quantity), 0) into wanted
    from erp_stock_layer l where l.tenant_id = tenant and l.product_id = product and l.effective_at >= since and l.quantity < 0;
    -- No more of the queue than may be used.
    select array_agg(l.in_after order by l.in_after), array_agg(l.quantity order by l.in_after), array_agg(l.cost order by l.in_after)
    into upto, amount, paid
    from erp_stock_layer l
    where l.tenant_id = tenant and l.product_id = product and l.quantity > 0 and l.effective_at < since and l.in_after > came - there
      and l.in_after <= coalesce((
        select f.in_after from erp_stock_layer f
        where f.tenant_id = tenant and f.product_id = product and f.quantity > 0 and f.effective_at < since and f.in_after >= came - there + wanted
        order by f.in_after limit 1), 'Infinity');
  end if;

  for e in
    select l.id, l.quantity, l.landed, m.cost as given, m.reversal_of, o.value as undone
    from erp_stock_layer l
    join erp_stock_move m on m.tenant_id = l.tenant_id and m.id = l.id
    left join erp_stock_layer o on o.tenant_id = l.tenant_id and o.id = m.reversal_of
    where l.tenant_id = tenant and l.product_id = product and l.effective_at >= since
    order by l.effective_at, l.quantity < 0, l.id
  loop
    before := worth;
    cost := null;
    if e.quantity > 0 then
      if e.reversal_of is not null then
        known := array_position(done, e.reversal_of);
        cost := -case when known is null then e.undone else values_of[known] end;
      else
        cost := coalesce(e.given, round(e.quantity * each_costs, 4)) + e.landed;
      end if;
      if there >= 0 then
        worth := worth + cost;
      elsif there + e.quantity > 0 then
        worth := cost - round(cost * -there / e.quantity, 4);
      else
        worth := round(worth * (there + e.quantity) / there, 4);
      end if;
      came := came + e.quantity;
      there := there + e.quantity;
      if first_in then
        upto := upto || came;
        amount := amount || e.quantity;
        paid := paid || cost;
        each_costs := cost / e.quantity;
      elsif there > 0 then
        each_costs := worth / there;
      end if;
    else
      want := -e.quantity;
      if first_in then
        used := came - there;
        while want > 0 and oldest <= cardinality(upto) loop
          if upto[oldest] <= used then
            oldest := oldest + 1;
            continue;
          end if;
          begins := upto[oldest] - amount[oldest];
          part := least(upto[oldest] - used, want);
          worth := worth - round(paid[oldest] * (used + part - begins) / amount[oldest], 4) + round(paid[oldest] * (used - begins) / amount[oldest], 4);
          used := used + part;
          want := want - part;
        end loop;
        worth := worth - round(want * each_costs, 4);
      elsif there > want then
        worth := worth - round(worth * want / there, 4);
      elsif there > 0 then
        worth := -round((want - there) * each_costs, 4);
      else
        worth := worth - round(want * each_costs, 4);
      end if;
      there := there + e.quantity;
      if not first_in and there > 0 then
        each_costs := worth / there;
      end if;
    end if;
    each_costs := round(each_costs, 10);
    id := e.id;
    value := worth - before;
    quantity_after := there;
    value_after := worth;
    in_after := came;
    unit_cost := each_costs;
    done := done || id;
    values_of := values_of || value;
    return next;
  end loop;
end
$$;

/* Values a product's moves anew from a moment on, with all that follows from them. Whoever calls it holds the product's
   row of `erp_stock_value`. Bounded: a period that is closed is before it, and no more than 100,000 moves. */
create function erp_revalue(tenant uuid, product uuid, since timestamptz) returns void language plpgsql as $$
declare
  most constant int := 100000;
begin
  if (select count(*) from (select from erp_stock_layer l where l.tenant_id = tenant and l.product_id = product and l.effective_at >= since limit most + 1) as later) > most then
    raise exception 'more than % moves would be valued anew', most using errcode = 'TN413', detail = json_build_object('at_most', most)::text;
  end if;
  update erp_stock_layer l
  set cost = n.cost, value = n.value, quantity_after = n.quantity_after, value_after = n.value_after, in_after = n.in_after, unit_cost = n.unit_cost
  from erp_valuation(tenant, product, since) as n
  -- The product and the moment are said again, so that these rows alone are looked at, whatever the planner thinks of the table.
  where l.tenant_id = tenant and l.product_id = product and l.effective_at >= since and l.id = n.id
    and (l.cost, l.value, l.quantity_after, l.value_after, l.in_after, l.unit_cost) is distinct from (n.cost, n.value, n.quantity_after, n.value_after, n.in_after, n.unit_cost);
  update erp_stock_value h set quantity = l.quantity_after, value = l.value_after, unit_cost = l.unit_cost, updated_at = now()
  from (
    select quantity_after, value_after, unit_cost from erp_stock_layer
    where tenant_id = tenant and product_id = product order by effective_at desc, (quantity < 0) desc, id desc limit 1
  ) as l
  where h.tenant_id = tenant and h.product_id = product;
end
$$;

/* Keeps the value of stock with its moves. What goes from one place that holds stock to another is worth the same.
   Products are locked in their order, after the quants: everybody who moves has them in this order. */
create function erp_value_moves() returns trigger language plpgsql security definer as $$
declare
  p record;
  kept_in char(3);
begin
  for p in
    select m.tenant_id, m.organization_id, m.product_id, min(m.effective_at) as since, min(m.currency) filter (where m.cost is not null) as currency,
      array_agg(m.id) as ids, array_agg(case when erp_holds_stock(t.kind) then m.quantity else -m.quantity end) as quantities
    from moves m
    join erp_location f on f.tenant_id = m.tenant_id and f.id = m.from_location_id
    join erp_location t on t.tenant_id = m.tenant_id and t.id = m.to_location_id
    where erp_holds_stock(f.kind) <> erp_holds_stock(t.kind)
    group by 1, 2, 3 order by 3
  loop
    loop
      select h.currency into kept_in from erp_stock_value h where h.tenant_id = p.tenant_id and h.product_id = p.product_id for update;
      exit when found;
      insert into erp_stock_value (tenant_id, organization_id, product_id) values (p.tenant_id, p.organization_id, p.product_id) on conflict do nothing;
    end loop;
    if kept_in is null and p.currency is not null then
      update erp_stock_value h set currency = p.currency where h.tenant_id = p.tenant_id and h.product_id = p.product_id;
    elsif kept_in <> p.currency then
      raise exception 'valued in another currency' using errcode = 'TN400';
    end if;
    insert into erp_stock_layer (id, tenant_id, organization_id, product_id, effective_at, quantity)
    select m.id, p.tenant_id, p.organization_id, p.product_id, m.effective_at, n.quantity
    from unnest(p.ids, p.quantities) as n (id, quantity) join moves m on m.id = n.id;
    perform erp_revalue(p.tenant_id, p.product_id, p.since);
  end loop;
  return null;
end
$$;
/* After `apply_moves`, by name. */
create trigger value_moves after insert on erp_stock_move referencing new table as moves for each statement execute function erp_value_moves();

/* Landed cost is part of what the goods cost from the moment they came. */
create function erp_add_landed_cost(tenant uuid, moves uuid[], amounts numeric[]) returns void language plpgsql security definer as $$
declare
  p record;
begin
  if tenant is distinct from plane.tenant_id() then
    raise exception 'another tenant is bound';
  end if;
  for p in
    select l.organization_id, l.product_id, min(l.effective_at) as since, array_agg(n.id) as ids, array_agg(n.amount) as amounts
    from unnest(moves, amounts) as n (id, amount) join erp_stock_layer l on l.tenant_id = tenant and l.id = n.id
    group by 1, 2 order by 2
  loop
    perform pg_advisory_xact_lock_shared(erp_stock_lock(tenant, p.organization_id));
    perform from erp_stock_period c where c.tenant_id = tenant and c.organization_id = p.organization_id and p.since <= c.closed_through;
    if found then
      raise exception 'the period is closed' using errcode = 'TN409';
    end if;
    perform from erp_stock_value h where h.tenant_id = tenant and h.product_id = p.product_id for update;
    update erp_stock_layer l set landed = l.landed + n.amount
    from unnest(p.ids, p.amounts) as n (id, amount) where l.tenant_id = tenant and l.id = n.id;
    perform erp_revalue(tenant, p.product_id, p.since);
  end loop;
end
$$;
revoke execute on function erp_add_landed_cost from public;
grant execute on function erp_add_landed_cost to tenantry_app;

/* How many a place can give at a moment so that it never has less than nothing, then or later; `now_there` is what it has now. */
create function erp_lowest_since(tenant uuid, location uuid, product uuid, lot uuid, at timestamptz, now_there numeric) returns numeric
language sql stable as $$
  select now_there - greatest(0, max(s.later)) from (
    select sum(sum(e.delta)) over (order by e.effective_at desc) as later from (
      select effective_at, quantity as delta from erp_stock_move
      where tenant_id = tenant and to_location_id = location and product_id = product and lot_id is not distinct from lot and effective_at > at
      union all
      select effective_at, -quantity from erp_stock_move
      where tenant_id = tenant and from_location_id = location and product_id = product and lot_id is not distinct from lot and effective_at > at
    ) as e group by e.effective_at
  ) as s
$$;

alter table erp_stock_quant add column last_at timestamptz(3) not null default '-infinity';
comment on column erp_stock_quant.last_at is 'When the latest of its moves is effective.';
update erp_stock_quant q set last_at = m.last_at
from (
  select tenant_id, product_id, lot_id, location_id, max(effective_at) as last_at
  from (
    select tenant_id, product_id, lot_id, from_location_id as location_id, effective_at from erp_stock_move
    union all
    select tenant_id, product_id, lot_id, to_location_id, effective_at from erp_stock_move
  ) as ends group by 1, 2, 3, 4
) as m
where q.tenant_id = m.tenant_id and q.product_id = m.product_id and q.location_id = m.location_id and q.lot_id is not distinct from m.lot_id;

/* Keeps "sum of moves = quants" at every commit, by construction: the only writer of quantities. The quants of a statement
   are locked in (product, location, lot) order, the order everywhere, so two writers wait and never deadlock. What is
   effective before a place's latest move must leave it enough for all that came after. */
create or replace function erp_apply_moves() returns trigger language plpgsql security definer as $$
begin
  insert into erp_stock_quant (tenant_id, organization_id, location_id, product_id, lot_id, negative_allowed)
  select distinct m.tenant_id, m.organization_id, l.id, m.product_id, m.lot_id, l.allow_negative or not erp_holds_stock(l.kind)
  from moves m join erp_location l on l.tenant_id = m.tenant_id and l.id in (m.from_location_id, m.to_location_id)
  order by m.product_id, l.id, m.lot_id
  on conflict do nothing;

  perform from erp_stock_quant q
  join moves m on m.tenant_id = q.tenant_id and m.product_id = q.product_id and q.location_id in (m.from_location_id, m.to_location_id)
    and q.lot_id is not distinct from m.lot_id
  order by q.product_id, q.location_id, q.lot_id
  for update of q;

  if exists (
    select from moves m
    join erp_stock_quant q on q.tenant_id = m.tenant_id and q.product_id = m.product_id and q.location_id = m.from_location_id
      and q.lot_id is not distinct from m.lot_id and m.effective_at < q.last_at and not q.negative_allowed
    cross join lateral (
      select sum(case when n.to_location_id = q.location_id then n.quantity else -n.quantity end) as change from moves n
      where n.product_id = q.product_id and n.lot_id is not distinct from q.lot_id and q.location_id in (n.from_location_id, n.to_location_id)
    ) as d
    where erp_lowest_since(q.tenant_id, q.location_id, q.product_id, q.lot_id, m.effective_at, q.quantity + d.change) < 0
  ) then
    raise exception 'less than nothing in between' using errcode = 'check_violation', constraint = 'erp_stock_quant_not_negative';
  end if;

  update erp_stock_quant q set quantity = q.quantity + d.delta, last_at = greatest(q.last_at, d.latest), updated_at = now()
  from (
    select tenant_id, product_id, lot_id, location_id, sum(delta) as delta, max(effective_at) as latest
    from (
      select tenant_id, product_id, lot_id, from_location_id as location_id, -quantity as delta, effective_at from moves
      union all
      select tenant_id, product_id, lot_id, to_location_id, quantity, effective_at from moves
    ) as entries group by 1, 2, 3, 4
  ) as d
  where q.tenant_id = d.tenant_id and q.product_id = d.product_id and q.location_id = d.location_id and q.lot_id is not distinct from d.lot_id;

  if not exists (select from moves where lot_id is not null) then
    return null;
  end if;
  -- A serial number is one piece in one place. Its lot is locked, so that two who bring it in at once see each other.
  perform from erp_lot l
  where (l.tenant_id, l.id) in (
    select m.tenant_id, m.lot_id from moves m join erp_product p on p.tenant_id = m.tenant_id and p.id = m.product_id and p.serial_tracked)
  order by l.id for no key update;
  if found and exists (
    select from erp_stock_quant q join erp_location l on l.tenant_id = q.tenant_id and l.id = q.location_id and erp_holds_stock(l.kind)
    where (q.tenant_id, q.product_id, q.lot_id) in (
      select m.tenant_id, m.product_id, m.lot_id from moves m join erp_product p on p.tenant_id = m.tenant_id and p.id = m.product_id and p.serial_tracked)
    group by q.tenant_id, q.lot_id having sum(q.quantity) > 1 or max(q.quantity) > 1 or bool_or(q.quantity <> trunc(q.quantity))
  ) then
    raise exception 'a serial number is one piece' using errcode = 'check_violation', constraint = 'erp_stock_serial';
  end if;
  return null;
end
$$;

/* Whether a place may have less than nothing is kept with what it has. */
create function erp_location_changed() returns trigger language plpgsql security definer as $$
begin
  update erp_stock_quant q set negative_allowed = n.allow_negative or not erp_holds_stock(n.kind)
  from new_rows n join old_rows o using (id)
  where n.allow_negative <> o.allow_negative and q.tenant_id = n.tenant_id and q.location_id = n.id;
  return null;
end
$$;
create trigger location_changed after update on erp_location referencing old table as old_rows new table as new_rows
  for each statement execute function erp_location_changed();

/* What is reserved is the sum of the reservations, as what is there is the sum of the moves. */
create function erp_apply_reservations() returns trigger language plpgsql security definer as $$
begin
  if tg_op = 'INSERT' then
    update erp_stock_quant q set reserved = q.reserved + d.quantity
    from (select tenant_id, product_id, location_id, lot_id, sum(quantity) as quantity from new_rows group by 1, 2, 3, 4) as d
    where q.tenant_id = d.tenant_id and q.product_id = d.product_id and q.location_id = d.location_id and q.lot_id is not distinct from d.lot_id;
  else
    update erp_stock_quant q set reserved = q.reserved - d.quantity
    from (select tenant_id, product_id, location_id, lot_id, sum(quantity) as quantity from old_rows group by 1, 2, 3, 4) as d
    where q.tenant_id = d.tenant_id and q.product_id = d.product_id and q.location_id = d.location_id and q.lot_id is not distinct from d.lot_id;
  end if;
  return null;
end
$$;
create trigger apply_reservations_insert after insert on erp_stock_reservation referencing new table as new_rows
  for each statement execute function erp_apply_reservations();
create trigger apply_reservations_delete after delete on erp_stock_reservation referencing old table as old_rows
  for each statement execute function erp_apply_reservations();
revoke update on erp_stock_reservation from tenantry_app; -- given up and made anew, so that the sum needs no third rule
-- Whoever picks locks quants, for which the right to update some column is needed: not the one that counts.
revoke update (reserved) on erp_stock_quant from tenantry_app;
grant update (updated_at) on erp_stock_quant to tenantry_app;
create index erp_stock_reservation_recent on erp_stock_reservation (tenant_id, organization_id, created_at desc, id desc);
create index erp_stock_reservation_expires on erp_stock_reservation (tenant_id, expires_at) where expires_at is not null;

do $$
declare
  name text;
begin
  -- Where they were made: in a tenant's own schema that is not `public`.
  foreach name in array array['erp_value_moves', 'erp_add_landed_cost', 'erp_apply_moves', 'erp_location_changed', 'erp_apply_reservations'] loop
    execute format('alter function %I set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;

-- What was moved before.
insert into erp_stock_value (tenant_id, organization_id, product_id, currency)
select m.tenant_id, m.organization_id, m.product_id, min(m.currency) filter (where m.cost is not null) from erp_stock_move m group by 1, 2, 3;
insert into erp_stock_layer (id, tenant_id, organization_id, product_id, effective_at, quantity)
select m.id, m.tenant_id, m.organization_id, m.product_id, m.effective_at, case when erp_holds_stock(t.kind) then m.quantity else -m.quantity end
from erp_stock_move m
join erp_location f on f.tenant_id = m.tenant_id and f.id = m.from_location_id
join erp_location t on t.tenant_id = m.tenant_id and t.id = m.to_location_id
where erp_holds_stock(f.kind) <> erp_holds_stock(t.kind);
update erp_stock_layer l
set cost = n.cost, value = n.value, quantity_after = n.quantity_after, value_after = n.value_after, in_after = n.in_after, unit_cost = n.unit_cost
from erp_stock_value h cross join lateral erp_valuation(h.tenant_id, h.product_id, '-infinity') as n
where l.tenant_id = h.tenant_id and l.id = n.id;
update erp_stock_value h set quantity = l.quantity_after, value = l.value_after, unit_cost = l.unit_cost
from (
  select distinct on (tenant_id, product_id) tenant_id, product_id, quantity_after, value_after, unit_cost from erp_stock_layer
  order by tenant_id, product_id, effective_at desc, (quantity < 0) desc, id desc
) as l
where h.tenant_id = l.tenant_id and h.product_id = l.product_id;
