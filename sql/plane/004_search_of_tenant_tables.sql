/* Tables that belong to the whole tenant have no organization to ask for. */
create or replace function plane.search_ids(target text, names text[], tenant uuid, organization uuid, pattern text, cap int) returns uuid[]
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
  execute format('select array(select id from %I where tenant_id = $1 and %s and deleted_at is null and (%s) limit $4)', target, within, matches)
    into found using tenant, organization, pattern, cap + 1;
  return case when cardinality(found) > cap then null else found end;
end
$$;
