/* A request for a tenant is counted and kept in one transaction: the locks make those of one person, and those of one
   network, come one after the other, so that many at once are not all counted before any is kept. They end with the
   transaction. The count is across tenants, which the transaction, bound to the tenant that is made, does not see:
   the platform's view is opened for the one query. */
create function plane.count_registrations(applicant text, network inet, out waiting int, out today int)
language plpgsql set search_path = public, pg_temp as $$
begin
  -- Always in this order: two requests that share both never hold what the other waits for.
  perform pg_advisory_xact_lock(7270, hashtext(applicant));
  perform pg_advisory_xact_lock(7271, hashtext(host(network)));
  perform set_config('tenantry.platform', 'on', true);
  select count(*) filter (where r.email = applicant and r.decision is null),
    count(*) filter (where r.address <<= network and r.created_at > now() - interval '1 day')
  into waiting, today
  from tenant_registrations r
  where r.email = applicant or (r.address <<= network and r.created_at > now() - interval '1 day');
  perform set_config('tenantry.platform', 'off', true);
end $$;
comment on function plane.count_registrations is 'Requests of a person that wait, and those of a network in a day; others of the two wait until the transaction ends.';
revoke all on function plane.count_registrations from public;
grant execute on function plane.count_registrations to tenantry_app;
