-- What is deleted for good leaves room in the plan again.
create function plane.count_gone() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform plane.use(tenant_id, 'records', -count(*), null) from old_rows group by tenant_id;
  return null;
end
$$;
