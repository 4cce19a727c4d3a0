/* Takes the table itself and not its name: a tenant may have a schema of its own, and a name means what its caller's search path says. */
drop function plane.search_ids(text, text[], uuid, uuid, text, int);
create function plane.search_ids(target regclass, names text[], tenant uuid, organization uuid, pattern text, cap int) returns uuid[]
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
  found uuid[];
  matches text;
  within text := case when organization is null then 'true' else 'organization_id = $2' end;
begin
  if tenant is distinct from plane.tenant_id() then
    return '{}';
  end if;
  select string_agg(format('%I ilike $3', name), ' or ') into matches from unnest(names) as name;
  execute format('select array(select id from %s where tenant_id = $1 and %s and deleted_at is null and (%s) limit $4)', target, within, matches)
    into found using tenant, organization, pattern, cap + 1;
  return case when cardinality(found) > cap then null else found end;
end
$$;
revoke execute on function plane.search_ids from public;
grant execute on function plane.search_ids to tenantry_app, tenantry_reader;
