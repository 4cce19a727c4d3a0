/* The trigram index reads every entry of every trigram that it is asked for, and in "Client number 1007" most are in every
   row. It is asked for the rarest word alone, which a thousand rows tell, and the whole term is held against what it finds. */
create or replace function plane.search_ids(target regclass, names text[], tenant uuid, organization uuid, pattern text, cap int) returns uuid[]
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
  found uuid[];
  seen text[];
  probe text;
  live text := format('%s where tenant_id = $1 and %s and deleted_at is null', target, case when organization is null then 'true' else 'organization_id = $2' end);
  term text := lower(pattern);
  -- By index, and, as no index is on an expression, by reading what was found.
  indexed text := (select string_agg(format('%I ilike $3', name), ' or ') from unnest(names) as name);
  read text := (select string_agg(format('(%I || '''') ilike $4', name), ' or ') from unnest(names) as name);
begin
  if tenant is distinct from plane.tenant_id() then
    return '{}';
  end if;
  execute format('select array(select lower(concat_ws(E''\n'', %s)) from %s limit 1000)', (select string_agg(format('%I', name), ', ') from unnest(names) as name), live)
    into seen using tenant, organization;
  -- A term that every twentieth row has is common: a page of it is found by walking the list.
  if (select count(*) >= 50 from unnest(seen) as text where text like term) then
    return null;
  end if;
  -- The pattern is the escaped term between two '%'. A word of under three letters has no trigram of its own.
  select '%' || word || '%' into probe
  from regexp_split_to_table(substr(term, 2, length(term) - 2), '\s+') as word
  cross join lateral (select count(*) as hits from unnest(seen) as text where text like '%' || word || '%') as sample
  where word ~ '[[:alnum:]]{3}' and hits < 50
  order by hits, length(word) desc limit 1;
  execute format('select array(select id from %s and (%s) and (%s) limit $5)', live, indexed, read)
    into found using tenant, organization, coalesce(probe, pattern), pattern, cap + 1;
  return case when cardinality(found) > cap then null else found end;
end
$$;
