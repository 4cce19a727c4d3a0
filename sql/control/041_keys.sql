-- Keys are changed in place: another network of a key counts at the next request.
create or replace function plane.raise_epoch_of_users() returns trigger language plpgsql as $$
declare
  watched constant text[] := '{status,password_hash,revoked_at,kind,verified_at,expires_at,permissions,email,name,locale,timezone,deleted_at,authenticated_at,methods,confirmed_at,allowed_addresses}';
  tenant uuid;
begin
  for tenant in
    select distinct n.tenant_id
    from (select tenant_id, id, to_jsonb(r) as j from new_rows r) n join (select id, to_jsonb(r) as j from old_rows r) o using (id)
    where exists (select from unnest(watched) as w where n.j -> w is distinct from o.j -> w)
  loop
    update tenants set access_epoch = access_epoch + 1 where id = tenant;
    perform pg_notify('tenantry_access', tenant::text), set_config('tenantry.rights_changed', 'on', true);
  end loop;
  return null;
end
$$;
