-- What is closed stays as it is.
create table erp_stock_period (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  closed_through timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, id)
);
comment on table erp_stock_period is 'Until when an organization''s stock is closed: no move is effective then or before.';
create unique index erp_stock_period__organization_id_key on erp_stock_period (tenant_id, organization_id);
call plane.protect('erp_stock_period', rights => 'select, insert, update');
call plane.audited('erp_stock_period');

/* Moves of an organization share a lock until they commit, and look at the period after they have it; whoever closes the
   period holds it alone. So a move is either there when it is closed, or finds it closed. */
create function erp_stock_lock(tenant uuid, organization uuid) returns bigint language sql immutable parallel safe
  as $$ select hashtextextended('stock period ' || tenant || ' ' || organization, 0) $$;

create function erp_check_period() returns trigger language plpgsql security definer as $$
begin
  perform pg_advisory_xact_lock_shared(erp_stock_lock(o.tenant_id, o.organization_id))
    from (select distinct tenant_id, organization_id from moves order by 1, 2) as o;
  if exists (select from moves m join erp_stock_period p on p.tenant_id = m.tenant_id and p.organization_id = m.organization_id and m.effective_at <= p.closed_through) then
    raise exception 'the period is closed' using errcode = 'TN409';
  end if;
  return null;
end
$$;
do $$
begin
  -- Where it was made: in a tenant's own schema that is not `public`.
  execute format('alter function erp_check_period() set search_path = %I, pg_temp', current_schema());
end
$$;
/* Before `apply_moves`, by name: a closed period is refused before quants are locked. */
create trigger allow_moves after insert on erp_stock_move referencing new table as moves for each statement execute function erp_check_period();
