/* A trigger's statements are planned once a connection, for as many rows as its first call was given. After a receipt of a
   hundred lines every move of that connection read all quants of all tenants, to join them with its one row. And a layer
   was written twice: when it was put in and when it was valued. */

/* The moves of a product from a moment on, valued one after the other on what there was before; with `new_ids` those that
   have no layer yet, each with what it brings (above zero) or takes. Nothing is written: who keeps the values and who proves
   them ask the same.

   Taken out: at the average, value × taken / there; first in, first out, what the oldest that is left cost. A part of a
   layer costs the difference of two rounded parts of the whole, so that all parts make the whole, to the last decimal.
   Taken out below zero: at what one costs last; what comes then makes up for it, at its own cost.
   Brought in without a cost: at what one costs then. Brought back: at what it had when it left. */
drop function erp_valuation(uuid, uuid, timestamptz);
create function erp_valuation(tenant uuid, product uuid, since timestamptz, new_ids uuid[] default '{}', new_quantities numeric[] default '{}')
returns table (id uuid, effective_at timestamptz, quantity numeric, cost numeric, value numeric, quantity_after numeric, value_after numeric, in_after numeric, unit_cost numeric)
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
    from (
      select l.quantity from erp_stock_layer l where l.tenant_id = tenant and l.product_id = product and l.effective_at >= since
      union all
      select unnest(new_quantities)
    ) as l where l.quantity < 0;
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
    select l.id, m.effective_at, l.quantity, l.landed, m.cost as given, m.reversal_of, o.value as undone
    from (
      select l.id, l.quantity, l.landed from erp_stock_layer l where l.tenant_id = tenant and l.product_id = product and l.effective_at >= since
      union all
      select n.id, n.quantity, 0 from unnest(new_ids, new_quantities) as n (id, quantity)
    ) as l
    join erp_stock_move m on m.tenant_id = tenant and m.id = l.id
    left join erp_stock_layer o on o.tenant_id = tenant and o.id = m.reversal_of
    order by m.effective_at, l.quantity < 0, l.id
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
    effective_at := e.effective_at;
    quantity := e.quantity;
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

/* Values a product's moves anew from a moment on, new ones among them, with all that follows from them. Whoever calls it
   holds the product's row of `erp_stock_value`. Bounded: a period that is closed is before it, and no more than 100,000 moves. */
drop function erp_revalue(uuid, uuid, timestamptz);
create function erp_revalue(tenant uuid, product uuid, since timestamptz, new_ids uuid[] default '{}', new_quantities numeric[] default '{}')
returns void language plpgsql as $$
declare
  most constant int := 100000;
begin
  if exists (select from erp_stock_layer l where l.tenant_id = tenant and l.product_id = product and l.effective_at >= since offset most) then
    raise exception 'more than % moves would be valued anew', most using errcode = 'TN413', detail = json_build_object('at_most', most)::text;
  end if;
  with valued as materialized (
    select * from erp_valuation(tenant, product, since, new_ids, new_quantities) with ordinality
      as v (id, effective_at, quantity, cost, value, quantity_after, value_after, in_after, unit_cost, place)
  ), written as (
    insert into erp_stock_layer as l (id, tenant_id, organization_id, product_id, effective_at, quantity, cost, value, quantity_after, value_after, in_after, unit_cost)
    select v.id, h.tenant_id, h.organization_id, h.product_id, v.effective_at, v.quantity, v.cost, v.value, v.quantity_after, v.value_after, v.in_after, v.unit_cost
    from erp_stock_value h, valued v where h.tenant_id = tenant and h.product_id = product
    on conflict (id) do update
    set cost = excluded.cost, value = excluded.value, quantity_after = excluded.quantity_after, value_after = excluded.value_after,
      in_after = excluded.in_after, unit_cost = excluded.unit_cost
    where (l.cost, l.value, l.quantity_after, l.value_after, l.in_after, l.unit_cost)
      is distinct from (excluded.cost, excluded.value, excluded.quantity_after, excluded.value_after, excluded.in_after, excluded.unit_cost)
  )
  update erp_stock_value h set quantity = v.quantity_after, value = v.value_after, unit_cost = v.unit_cost, updated_at = now()
  from (select quantity_after, value_after, unit_cost from valued order by place desc limit 1) as v
  where h.tenant_id = tenant and h.product_id = product;
end
$$;

/* Keeps the value of stock with its moves. What goes from one place that holds stock to another is worth the same.
   Products are locked in their order, after the quants: everybody who moves has them in this order. */
create or replace function erp_value_moves() returns trigger language plpgsql security definer as $$
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
    perform erp_revalue(p.tenant_id, p.product_id, p.since, p.ids, p.quantities);
  end loop;
  return null;
end
$$;

do $$
declare
  name text;
begin
  -- `create or replace` takes the settings away with the body: see 011 for the search path.
  execute format('alter function erp_value_moves() set search_path = %I, pg_temp', current_schema());
  /* What is moved or reserved is always little beside what there is: it is looked up by index, row by row, and one plan is
     good for all. */
  foreach name in array array['erp_apply_moves', 'erp_valuation', 'erp_value_moves', 'erp_apply_reservations', 'erp_add_landed_cost'] loop
    execute format('alter function %I set enable_seqscan to off', name);
    execute format('alter function %I set enable_hashjoin to off', name);
    execute format('alter function %I set enable_mergejoin to off', name);
    execute format('alter function %I set plan_cache_mode to force_generic_plan', name);
  end loop;
end
$$;

/* Before and after are compared as sets: joined by a plan that was made for one row, ten thousand would meet each with each. */
create or replace function erp_index_custom() returns trigger language plpgsql security definer as $$
begin
  if tg_op = 'INSERT' then
    perform erp_put_custom(tg_table_name, (select array_agg(id) from new_rows where custom <> '{}'));
  else
    perform erp_put_custom(tg_table_name, (select array_agg(id) from (select id, custom from new_rows except select id, custom from old_rows) as changed));
  end if;
  return null;
end
$$;
do $$
begin
  execute format('alter function erp_index_custom() set search_path = %I, pg_temp', current_schema());
end
$$;
