-- Fields that a company adds to its records, and what is found by them.
alter table erp_custom_field
  drop constraint erp_custom_field_kind_check,
  add constraint erp_custom_field_kind_check check (kind in ('text', 'number', 'integer', 'boolean', 'date', 'choice')),
  add column description text,
  add column minimum double precision,
  add column maximum double precision,
  add column max_length int check (max_length between 1 and 2000),
  add column filterable boolean not null default false,
  add constraint erp_custom_field_range check (minimum <= maximum),
  add constraint erp_custom_field_choices check ((kind = 'choice') = (cardinality(choices) > 0)),
  add constraint erp_custom_field_filterable check (not filterable or coalesce(max_length, 500) <= 500);
create index erp_custom_field_code on erp_custom_field (tenant_id, organization_id, code, id) where deleted_at is null;
create index erp_custom_field_entity on erp_custom_field (tenant_id, organization_id, entity, id) where deleted_at is null;
call plane.counted('erp_custom_field');

create table erp_custom_value (
  tenant_id uuid not null,
  organization_id uuid not null,
  field_id uuid not null,
  row_id uuid not null,
  text_value text,
  number_value double precision,
  primary key (tenant_id, field_id, row_id),
  foreign key (tenant_id, field_id) references erp_custom_field (tenant_id, id)
);
comment on column erp_custom_value.number_value is 'A double, as JSON has it; and PostgreSQL lets row security be followed by comparisons of doubles, not of numeric.';
comment on table erp_custom_value is 'Values of the fields that records are filtered and sorted by: an index that a company switches on, and no table is locked. Written by triggers alone.';
create index erp_custom_value_row on erp_custom_value (tenant_id, row_id);
create index erp_custom_value_text on erp_custom_value (tenant_id, field_id, text_value, row_id) where text_value is not null;
create index erp_custom_value_number on erp_custom_value (tenant_id, field_id, number_value, row_id) where number_value is not null;
call plane.protect('erp_custom_value', rights => 'select');

/* Records that carry such values share a lock of their kind until they commit; who switches a field's index on holds it
   alone. So a record is either there when the index is filled, or finds the field switched on. */
create function erp_custom_lock(tenant uuid, organization uuid, entity text) returns bigint language sql immutable parallel safe
  as $$ select hashtextextended('custom ' || entity || ' ' || tenant || ' ' || organization, 0) $$;

/* Writes the values of records anew. */
create function erp_put_custom(entity text, ids uuid[]) returns void language plpgsql as $$
begin
  if ids is null then
    return;
  end if;
  execute format('select pg_advisory_xact_lock_shared(erp_custom_lock(tenant_id, organization_id, $1))
    from (select distinct tenant_id, organization_id from %I where id = any ($2) order by 1, 2) as o', entity) using entity, ids;
  execute format('delete from erp_custom_value v using %I n where n.id = any ($1) and v.tenant_id = n.tenant_id and v.row_id = n.id', entity) using ids;
  execute format('insert into erp_custom_value (tenant_id, organization_id, field_id, row_id, text_value, number_value)
    select n.tenant_id, n.organization_id, f.id, n.id,
      case when f.kind not in (''number'', ''integer'') then n.custom ->> f.code end, case when f.kind in (''number'', ''integer'') then (n.custom ->> f.code)::double precision end
    from %I n
    join erp_custom_field f on f.tenant_id = n.tenant_id and f.organization_id = n.organization_id and f.entity = $1 and f.filterable and f.deleted_at is null
    where n.id = any ($2) and n.custom ? f.code', entity) using entity, ids;
end
$$;

create function erp_index_custom() returns trigger language plpgsql security definer as $$
begin
  if tg_op = 'INSERT' then
    perform erp_put_custom(tg_table_name, (select array_agg(id) from new_rows where custom <> '{}'));
  else
    perform erp_put_custom(tg_table_name, (select array_agg(n.id) from new_rows n join old_rows o using (id) where n.custom <> o.custom));
  end if;
  return null;
end
$$;

/* Switched on, a field's index is filled from the records that there are; switched off or deleted, it is emptied. */
create function erp_custom_field_changed() returns trigger language plpgsql security definer as $$
begin
  if new.filterable and new.deleted_at is null and (tg_op = 'INSERT' or not old.filterable or old.deleted_at is not null) then
    perform pg_advisory_xact_lock(erp_custom_lock(new.tenant_id, new.organization_id, new.entity));
    execute format('insert into erp_custom_value (tenant_id, organization_id, field_id, row_id, text_value, number_value)
      select tenant_id, organization_id, $1, id, case when $2 then null else custom ->> $3 end, case when $2 then (custom ->> $3)::double precision end
      from %I where tenant_id = $4 and organization_id = $5 and custom ? $3', new.entity)
      using new.id, new.kind in ('number', 'integer'), new.code, new.tenant_id, new.organization_id;
  elsif tg_op = 'UPDATE' and old.filterable and (not new.filterable or new.deleted_at is not null) then
    perform pg_advisory_xact_lock(erp_custom_lock(new.tenant_id, new.organization_id, new.entity));
    delete from erp_custom_value where tenant_id = new.tenant_id and field_id = new.id;
  end if;
  return null;
end
$$;
create trigger custom_field_changed after insert or update on erp_custom_field for each row execute function erp_custom_field_changed();

do $$
declare
  name text;
begin
  execute format('alter function erp_index_custom() set search_path = %I, pg_temp', current_schema());
  execute format('alter function erp_custom_field_changed() set search_path = %I, pg_temp', current_schema());
  foreach name in array array['erp_party', 'erp_product_category', 'erp_product', 'erp_product_variant', 'erp_price_list', 'erp_location', 'erp_lot', 'erp_reorder_rule'] loop
    execute format('create trigger index_custom_insert after insert on %I referencing new table as new_rows for each statement execute function erp_index_custom()', name);
    execute format('create trigger index_custom_update after update on %I referencing old table as old_rows new table as new_rows for each statement execute function erp_index_custom()', name);
  end loop;
end
$$;
