/* Live rows whose text is like another, the likest first: for finding doubles. Runs as the owner for the reason that
   `plane.search_ids` does, and like it answers for the bound tenant alone. */
create function plane.similar_ids(target regclass, name text, tenant uuid, organization uuid, wanted text, cap int) returns table (id uuid, likeness real)
language plpgsql stable security definer set search_path = public, pg_temp set pg_trgm.similarity_threshold = 0.45 as $$
begin
  if tenant is distinct from plane.tenant_id() then
    return;
  end if;
  return query execute format(
    'select id, extensions.similarity(%1$I, $3) from %2$s where tenant_id = $1 and organization_id = $2 and deleted_at is null
       and %1$I operator(extensions.%%) $3 order by 2 desc, id limit $4', name, target)
    using tenant, organization, wanted, cap;
end
$$;
revoke execute on function plane.similar_ids from public;
grant execute on function plane.similar_ids to tenantry_app, tenantry_reader;

/* GTIN-8, -12, -13 or -14 with its check digit: GS1 General Specifications, section 7.9. */
create function plane.is_gtin(code text) returns boolean language sql immutable parallel safe as $$
  select code ~ '^([0-9]{8}|[0-9]{12,14})$' and (
    select sum(digit::int * case when (length(code) - place) % 2 = 1 then 3 else 1 end) % 10 = 0
    from regexp_split_to_table(code, '') with ordinality as d (digit, place))
$$;
